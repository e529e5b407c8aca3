"""What passes share is propagated back once, and a graph that can't be separated is kept."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

from lightning_advdrop import (
    AdversarialDropoutCallback,
    FraternalDropoutCallback,
    RDropCallback,
)
from tests.helpers.early import (
    APART,
    CLASSES,
    FEATURES,
    METHODS,
    SETTINGS,
    UNITS,
    Classifier,
    same_weights,
    trained,
)


class OwnBackward(Classifier):
    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        torch.autograd.backward(loss)


class Features(Classifier):
    """Calls a part that is compared with features that have a graph of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(FEATURES, FEATURES, dtype=torch.float64)
        self.part = Classifier()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.part(self.before(batch[0])), batch[1])


class Stacked(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.tanh(self.before(x)))

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(FEATURES, FEATURES, dtype=torch.float64)


class Reentrant(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss: Tensor = checkpoint(lambda x: x * 1.0, self.loss(batch), use_reentrant=True)
        return loss


class CachedWeights(Classifier):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.head)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx)


class Tied(Stacked):
    """Uses a weight before the first mask and behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.before.weight.square().sum()


class Residual(Classifier):
    """Adds to the masked output what it was computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(FEATURES, UNITS, dtype=torch.float64)
        self.lstm = nn.LSTM(UNITS, UNITS, batch_first=True, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.tanh(self.wide(x))
        logits: Tensor = self.head((self.lstm(torch.sin(wide))[0] + wide)[:, -1])
        return logits


class Branch(Features):
    """Compares what is computed from the middle of the loss's graph."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        features = torch.tanh(self.before(batch[0]))
        self.part(torch.sin(features))
        return F.cross_entropy(self.head(F.pad(features, (0, UNITS - FEATURES))[:, -1]), batch[1])


class OtherOutput(Features):
    """Hands one output of a function over, and uses another one of it behind the forward."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        values, others = self.before(batch[0]).chunk(2, -1)
        logits = self.narrow(values)
        return F.cross_entropy(logits, batch[1]) + others.square().mean()

    def __init__(self) -> None:
        super().__init__()
        self.part.lstm = nn.LSTM(FEATURES // 2, UNITS, batch_first=True, dtype=torch.float64)

    def narrow(self, x: Tensor) -> Tensor:
        logits: Tensor = self.part(x)
        return logits


SHARED = "the passes share what is computed before the first mask acts"


@pytest.mark.parametrize(
    ("model", "arguments", "why"),
    [
        (OwnBackward, {}, "the module has a backward() of its own"),
        (Tied, {}, SHARED),
        (Residual, {}, SHARED),
        (Branch, {"sites": "part.lstm:recurrent", "divergence": "kl", "search": "top"}, SHARED),
        (OtherOutput, {"sites": "part.lstm:recurrent"}, SHARED),
        (Reentrant, {"search": "gradient"}, "checkpoint(use_reentrant=True)"),
    ],
)
def test_a_graph_that_is_needed_is_kept_and_that_is_said_once(
    model: Any, arguments: Any, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def method() -> L.Callback:
        return AdversarialDropoutCallback(**{"rate": 0.3, "search": "label", **arguments})

    with caplog.at_level(logging.INFO):
        weights, found = trained(monkeypatch, model, method)
    assert all(isinstance(each, str) for each in found)
    said = [message for message in caplog.messages if "keeps the graph of the base pass" in message]
    assert len(said) == 1
    assert said[0].startswith("AdversarialDropoutCallback")
    assert why in said[0]
    expected, _ = trained(monkeypatch, model, method, joint=True)
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)


def test_weights_that_are_cached_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cached(L.Callback):
        def on_train_start(self, *_: Any) -> None:
            self.context = parametrize.cached()
            self.context.__enter__()

        def on_train_batch_start(self, *_: Any) -> None:
            parametrize._cache.clear()

        def on_train_end(self, *_: Any) -> None:
            self.context.__exit__(None, None, None)

    _, found = trained(monkeypatch, CachedWeights, METHODS["label"], callbacks=[Cached()])
    assert set(found) == {"the passes share weights that parametrize.cached() holds"}


def test_penalties_that_reach_the_base_pass_have_one_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (
        lambda: RDropCallback(rate=0.3),
        lambda: FraternalDropoutCallback(rate=0.3),
        lambda: AdversarialDropoutCallback(rate=0.3, detach_base=False),
    ):
        assert trained(monkeypatch, Classifier, method)[1] == []


@pytest.mark.parametrize("method", ["gradient", "label", "both losses"])
@pytest.mark.parametrize("name", ["features", "stacked"])
def test_what_passes_share_is_propagated_back_through_once(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that are handed over, and layers before the first mask that are not computed again."""

    def shared() -> L.Callback:
        callback: Any = METHODS[method]()
        settings = {each: getattr(callback.regularizer, each) for each in SETTINGS} | {"share_masks": True}
        return AdversarialDropoutCallback(
            sites="lstm:recurrent" if name == "stacked" else "part.lstm:recurrent", **settings
        )

    same_weights(monkeypatch, {"features": Features, "stacked": Stacked}[name], shared)


class SoftLabels(Classifier):
    """Is trained to predict what another part of it predicts, which learns from that, too."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        batch.append(self.teacher(batch[0][:, 0]).softmax(-1))
        return F.cross_entropy(self(batch[0]), batch[2])


def test_labels_with_a_graph_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    def method() -> L.Callback:
        return AdversarialDropoutCallback(rate=0.3, search="gradient", divergence="ce", target=2, **APART)

    same_weights(monkeypatch, SoftLabels, method)


class Prepared(Features):
    """Computes a part of the loss before the step."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.prepared = self.before(batch[0]).square().mean()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.part(batch[0]), batch[1]) + self.prepared


def test_what_a_repeated_step_finds_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    def method() -> L.Callback:
        return AdversarialDropoutCallback(
            sites="part.lstm:recurrent", rate=0.3, search="label", both_losses=True, **APART
        )

    same_weights(monkeypatch, Prepared, method)

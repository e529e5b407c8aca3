"""The early backward pass of the loss trains as the joint one does, and is left where the graph is needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_advdrop import (
    AdversarialDropoutCallback,
    FraternalDropoutCallback,
    PiModelCallback,
    PseudoEnsembleCallback,
    RDropCallback,
    VirtualAdversarialCallback,
)
from lightning_advdrop.callbacks import AdversarialTrainingCallback, stepping
from lightning_advdrop.callbacks.early_backward import EarlyBackward, early_backward
from tests.helpers.plain_models import quiet_trainer

BATCH, STEPS, FEATURES, CLASSES, UNITS = 6, 5, 4, 3, 7


def hooked(tensor: Tensor, hook: Callable[[Tensor], Any]) -> None:
    tensor.register_hook(hook)  # type: ignore[no-untyped-call]


class Classifier(L.LightningModule):
    """An LSTM in double precision, with an embedding-free input and dropout before its head."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
        self.head = nn.Linear(UNITS, CLASSES, dtype=torch.float64)
        self.unused = nn.Linear(2, 2, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.lstm(x)[0][:, -1]))
        return logits

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)


class InDictionary(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.loss(batch), "extra": 1}


class WithHooks(Classifier):
    """Hooks of parameters and of an activation that change gradients, one that sees the gradient before the step."""

    def __init__(self) -> None:
        super().__init__()
        hooked(self.head.weight, lambda gradient: 3 * gradient)
        hooked(self.lstm.get_parameter("weight_hh_l0"), lambda gradient: gradient.clamp(-0.01, 0.01))

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if logits.requires_grad:
            hooked(logits, lambda gradient: gradient * 0.7)
        return logits


class Lbfgs(Classifier):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class TwoCalls(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return F.cross_entropy(self(x), y) + 0.5 * F.cross_entropy(self(x.flip(1)), y)


class Checkpointed(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.lstm(x)[0][:, -1]
        logits: Tensor = checkpoint(self.head, hidden, use_reentrant=False)
        return logits


class OfWatchedLeaves(Classifier):
    """The loss depends on a leaf that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = [torch.ones((), dtype=torch.float64, requires_grad=True)]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * self.scale[0]

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        with torch.no_grad():
            assert self.scale[0].grad is not None
            self.scale[0] -= 0.1 * self.scale[0].grad


class Sparse(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, FEATURES, sparse=True, dtype=torch.float64)
        self.inner = Classifier()

    def forward(self, tokens: Tensor) -> Any:
        return self.inner(self.embedding(tokens))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self((batch[0][..., 0] * 2).long() % 9), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.3)


def data() -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4 * BATCH, STEPS, FEATURES, dtype=torch.float64, generator=draw)
    return DataLoader(TensorDataset(x, torch.randint(CLASSES, (len(x),), generator=draw)), BATCH)


#: Noise of their own, so that passes share nothing that is computed before the first mask.
APART: dict[str, Any] = {"share_masks": False}
METHODS: dict[str, Callable[[], L.Callback]] = {
    "gradient": lambda: AdversarialDropoutCallback(rate=0.3, weight=2.0, search="gradient", **APART),
    "gradient, ce": lambda: AdversarialDropoutCallback(rate=0.3, search="gradient", start="ones", divergence="ce"),
    "label": lambda: AdversarialDropoutCallback(rate=0.3, weight=2.0, search="label", **APART),
    "label, refined": lambda: AdversarialDropoutCallback(rate=0.3, search="label", steps=2, **APART),
    "top": lambda: AdversarialDropoutCallback(rate=0.3, search="top", **APART),
    "fisher": lambda: AdversarialDropoutCallback(rate=0.3, search="fisher", draws=2, **APART),
    "weight": lambda: AdversarialDropoutCallback(sites="weight", rate=0.1, search="label", **APART),
    "both losses": lambda: AdversarialDropoutCallback(
        rate=0.3,
        search="label",
        start="sampled",
        reference_in_base=True,
        flips="drop",
        rescaling="expected",
        both_losses=True,
        **APART,
    ),
    "fraternal": lambda: FraternalDropoutCallback(rate=0.3, detach_base=True),
    "pi": lambda: PiModelCallback(rate=0.3, detach_base=True),
    "pseudo-ensemble": lambda: PseudoEnsembleCallback(rate=0.3, detach_base=True),
    "vat": lambda: VirtualAdversarialCallback(sites="input", epsilon=1.0, share_masks=False),
    "adversarial training": lambda: AdversarialTrainingCallback(sites="input", epsilon=1.0, share_masks=False),
}


SETTINGS = ("rate", "search", "start", "reference_in_base", "flips", "rescaling", "both_losses")


@contextmanager
def early(found: list[Any], monkeypatch: pytest.MonkeyPatch, *, joint: bool) -> Iterator[None]:
    """Watch the early backward passes, or keep them from happening."""

    def watched(*args: Any) -> Any:
        found.append("kept" if joint else early_backward(*args))
        return found[-1]

    with monkeypatch.context() as patch:
        patch.setattr(stepping, "early_backward", watched)
        yield


def trained(
    monkeypatch: pytest.MonkeyPatch,
    model: Callable[[], L.LightningModule],
    *methods: Callable[[], L.Callback],
    joint: bool = False,
    **trainer: Any,
) -> tuple[dict[str, Tensor], list[Any]]:
    found: list[Any] = []
    L.seed_everything(1, verbose=False)
    module, callbacks = model(), [method() for method in methods]
    with early(found, monkeypatch, joint=joint):
        fit = quiet_trainer(callbacks=[*callbacks, *trainer.pop("callbacks", [])], max_epochs=2, **trainer)
        fit.fit(module, data())
    return module.state_dict(), found


def same_weights(
    monkeypatch: pytest.MonkeyPatch, model: Any, *methods: Any, rtol: float = 1e-9, **trainer: Any
) -> None:
    expected, _ = trained(monkeypatch, model, *methods, joint=True, **trainer)
    weights, found = trained(monkeypatch, model, *methods, **trainer)
    assert found
    assert all(isinstance(each, EarlyBackward) for each in found)
    torch.testing.assert_close(weights, expected, rtol=rtol, atol=1e-10)
    plain, _ = trained(monkeypatch, model, **trainer)
    assert not all(torch.allclose(weights[name], plain[name], rtol=1e-4) for name in weights)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_each_method_trains_as_with_one_backward_pass(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    same_weights(monkeypatch, Classifier, method)


@pytest.mark.parametrize(
    "model",
    [InDictionary, WithHooks, Lbfgs, TwoCalls, Checkpointed, OfWatchedLeaves, Sparse, lambda: Classifier(dropout=0.5)],
)
@pytest.mark.parametrize("method", ["gradient", "label", "both losses"])
@pytest.mark.filterwarnings("ignore:search=.* reads its scores in the base pass")
def test_each_model_trains_as_with_one_backward_pass(model: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    same_weights(monkeypatch, model, METHODS[method])


class Doubles(L.Callback):
    """Looks at the loss before it is propagated back, and changes gradients after."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        hooked(loss, lambda gradient: 1.5 * gradient)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(2)


@pytest.mark.parametrize(
    "trainer",
    [
        {"accumulate_grad_batches": 2},
        {"gradient_clip_val": 0.1},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"detect_anomaly": True},
        {"callbacks": [Doubles()]},
    ],
    ids=lambda trainer: next(iter(trainer)),
)
def test_each_trainer_trains_as_with_one_backward_pass(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    same_weights(monkeypatch, Classifier, METHODS["label"], **trainer)


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


def test_two_methods_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    same_weights(monkeypatch, Classifier, METHODS["label"], METHODS["vat"])


class Single(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.float()

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0].float()), batch[1])


def test_a_scaled_loss_is_scaled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled() -> Any:
        return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))

    expected, _ = trained(monkeypatch, Single, METHODS["label"], joint=True, plugins=scaled())
    weights, found = trained(monkeypatch, Single, METHODS["label"], plugins=scaled())
    assert all(isinstance(each, EarlyBackward) for each in found)
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-4)
    # What the graph is propagated back with is the scaled loss, as the smallest gradients need it.
    seen: list[Tensor] = []

    class Watched(Single):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            if logits.requires_grad:
                hooked(logits, lambda gradient: seen.append(gradient.abs().max()))
            return logits

    trained(monkeypatch, Watched, METHODS["label"], plugins=scaled())
    assert max(seen) > 10


class Keeps(Classifier):
    """Keeps the predictions of its passes."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        MADE.append(logits)
        return logits


MADE: list[Tensor] = []


@pytest.mark.parametrize("joint", [False, True])
def test_the_graph_is_free_when_another_pass_is_made(joint: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[bool] = []
    term = AdversarialDropoutCallback.term

    def watched(callback: Any, pl_module: Any, calls: Any) -> Any:
        try:
            torch.autograd.grad(MADE[0].sum(), pl_module.lstm.weight_hh_l0, retain_graph=True)
            freed.append(False)
        except RuntimeError as error:
            freed.append("a second time" in str(error))
        return term(callback, pl_module, calls)

    MADE.clear()
    monkeypatch.setattr(AdversarialDropoutCallback, "term", watched)
    trained(monkeypatch, Keeps, METHODS["label"], joint=joint, limit_train_batches=1)
    assert freed[0] is not joint


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


class Reversible(torch.autograd.Function):
    """Recomputes a part in its backward pass, which accumulates gradients by itself."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, layer: nn.Module) -> Tensor:
        ctx.layer, ctx.variable = layer, 3
        ctx.save_for_backward(hidden)
        with torch.no_grad():
            found: Tensor = layer(hidden)
        return found

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> Any:
        (hidden,) = ctx.saved_tensors
        leaf = hidden.detach().requires_grad_()
        with torch.enable_grad():
            torch.autograd.backward(ctx.layer(leaf), incoming)
        return leaf.grad, None


class Recomputes(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = Reversible.apply(self.lstm(x)[0][:, -1], self.head)  # type: ignore[no-untyped-call]
        return logits


def test_gradients_that_a_function_accumulates_itself_are_handed_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def weak() -> L.Callback:  # the adversarial pass accumulates, too, where only the loss should be seen
        return AdversarialDropoutCallback(rate=0.3, weight=1e-12, search="gradient", **APART)

    weights, found = trained(monkeypatch, Recomputes, weak)
    assert all(isinstance(each, EarlyBackward) for each in found)
    expected, _ = trained(monkeypatch, Recomputes)
    torch.testing.assert_close(weights, expected, rtol=1e-8, atol=1e-9)


class Clamps(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if logits.requires_grad:
            hooked(logits, lambda gradient: gradient.clamp(-0.01, 0.01))
        return logits


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_hooks_see_the_share_of_a_batch_in_its_step(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    same_weights(monkeypatch, Clamps, METHODS["gradient"], accumulate_grad_batches=batches)


def test_a_scale_that_overflows_skips_the_step_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=100)
    weights, found = trained(monkeypatch, Single, METHODS["label"], plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert all(isinstance(each, EarlyBackward) for each in found)
    assert all(value.isfinite().all() for value in weights.values())
    assert scaler.get_scale() < 2.0**40


class NothingToLearn(Classifier):
    """Some batches have no example to learn from."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        return loss if batch_idx % 2 else torch.zeros((), requires_grad=True, dtype=torch.float64)


def test_a_loss_without_a_graph_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, found = trained(monkeypatch, NothingToLearn, METHODS["gradient"])
    assert len(found) == 4
    assert all(value.isfinite().all() for value in weights.values())

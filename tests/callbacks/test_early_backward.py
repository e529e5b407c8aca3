"""The early backward pass of the loss trains as the joint one does."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_advdrop import (
    AdversarialDropoutCallback,
)
from lightning_advdrop.callbacks.early_backward import EarlyBackward
from tests.helpers.early import (
    APART,
    FEATURES,
    METHODS,
    Classifier,
    hooked,
    same_weights,
    trained,
)


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

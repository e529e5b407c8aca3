"""The loss of another pass is what the training step computes of it, without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from lightning_advdrop import AdversarialDropoutCallback, FraternalDropoutCallback, RDropCallback, regularized_loss
from lightning_advdrop.nn import MaskedLSTM
from lightning_advdrop.regularizers import Penalty
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer

BATCH, STEPS, FEATURES, CLASSES, UNITS = 6, 5, 4, 3, 7
Step = Callable[["Module", dict[str, Tensor]], Any]


class Module(L.LightningModule):
    """A classifier with a step that is given to it, and keeps the gradient that it is trained by."""

    def __init__(self, step: Step, *, delegates: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
        self.head = nn.Linear(UNITS, CLASSES, dtype=torch.float64)
        self.step, self.delegates_regularization = step, delegates
        self.accuracy = MulticlassAccuracy(CLASSES)
        self.steps, self.gradients = 0, list[Tensor]()

    def forward(self, x: Tensor) -> Any:
        return {"hidden": (found := self.lstm(x)[0][:, -1]), "logits": self.head(found)}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.step(self, batch)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradients = [parameter.grad.clone() for parameter in self.parameters() if parameter.grad is not None]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def own(output: Any, y: Tensor) -> Tensor:
    """A loss that no target tells: of two parts of the output, with weights."""
    weights = torch.arange(1.0, BATCH + 1, dtype=torch.float64)
    classes: Tensor = F.multi_margin_loss(output["logits"], y, reduction="none")
    loss: Tensor = (weights * classes).mean() + 0.3 * output["hidden"].square().mean()
    return loss


def plain(module: Module, batch: dict[str, Tensor]) -> Any:
    return own(module(batch["x"]), batch["y"])


def takes_apart(module: Module, batch: dict[str, Tensor]) -> Any:
    """Empty the batch and the output, count, log, and update a metric."""
    x, y = batch.pop("x"), batch.pop("y")
    output = module(x)
    module.steps += 1
    logits, hidden = output.pop("logits"), output.pop("hidden")
    module.accuracy(logits, y)
    module.log("train/acc", module.accuracy)
    module.log("train/count", float(module.steps), reduce_fx="sum", on_step=False, on_epoch=True)
    return {"loss": own({"logits": logits, "hidden": hidden}, y), "count": module.steps}


def delegates(module: Module, batch: dict[str, Tensor]) -> Any:
    x, y = batch["x"], batch["y"]
    return regularized_loss(module, lambda: module(x), lambda output: own(output, y), complete=True).total


def batches() -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2 * BATCH, STEPS, FEATURES, dtype=torch.float64, generator=draw)
    y = torch.randint(CLASSES, (len(x),), generator=draw)
    return DataLoader([{"x": a, "y": b} for a, b in zip(x, y, strict=True)], BATCH)  # type: ignore[arg-type]


def fitted(step: Step, *callbacks: L.Callback, **how: Any) -> tuple[Module, dict[str, Tensor]]:
    L.seed_everything(2, verbose=False)
    module = Module(step, delegates=step is delegates)
    trainer = quiet_trainer(callbacks=list(callbacks), max_epochs=1, **how)
    trainer.fit(module, batches())
    return module, dict(trainer.callback_metrics)


def leading(**more: Any) -> AdversarialDropoutCallback:
    arguments = {"rate": 0.3, "search": "label", "start": "sampled", "start_rate": 0.25, "flips": "drop", **more}
    return AdversarialDropoutCallback(reference_in_base=True, rescaling="expected", both_losses=True, **arguments)


def kl(first: Tensor, second: Tensor) -> Tensor:
    p, q = first.detach().log_softmax(-1), second.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean()


@pytest.mark.parametrize("step", [plain, takes_apart, delegates])
def test_both_passes_are_trained_on_the_steps_own_loss(step: Step) -> None:
    """The gradient of a step is that of the formula, under the masks that were found."""
    callback, masks = leading(weight=0.7, divergence="kl"), list[dict[Any, Tensor]]()
    first, draw = list[Tensor](), callback.regularizer.first_mask

    def watched(*args: Any) -> Any:
        first.append(draw(*args))  # type: ignore[arg-type]
        return first[-1]

    vars(callback.regularizer)["first_mask"] = watched
    callback.listeners.append(lambda penalty: masks.append(dict(penalty.masks)))
    module, _ = fitted(step, callback, limit_train_batches=1)
    L.seed_everything(2, verbose=False)
    start = Module(plain)
    layer = MaskedLSTM(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
    layer.load_state_dict(start.lstm.state_dict())
    batch = next(iter(batches()))

    def output(mask: Tensor) -> dict[str, Tensor]:
        hidden = layer(batch["x"], recurrent_mask=mask)[0][:, -1]
        return {"hidden": hidden, "logits": start.head(hidden)}

    ((found,),) = [each.values() for each in masks]
    base, other = output(first[0].detach()), output(found / 0.75)
    loss = (own(base, batch["y"]) + own(other, batch["y"])) / 2 + 0.7 * kl(base["logits"], other["logits"])
    expected = torch.autograd.grad(loss, [*layer.parameters(), *start.head.parameters()])
    torch.testing.assert_close(module.gradients, list(expected), rtol=1e-8, atol=1e-10)
    # Up to two more of the kept units of each row are dropped, those whose drop raises the loss by its gradient.
    kept = (first[0] > 0).to(torch.float64)
    assert torch.all(found <= kept)
    leaf = first[0].detach().requires_grad_()
    (slope,) = torch.autograd.grad(own(output(leaf), batch["y"]), leaf)
    worst = torch.where((kept > 0) & (slope < 0), slope, 0).topk(2, largest=False)
    expected_mask = kept.scatter(1, torch.where(worst.values < 0, worst.indices, 0), 0.0)
    rows = (worst.values < 0).all(1)
    assert rows.any()
    assert torch.equal(found[rows], expected_mask[rows])


@pytest.mark.parametrize("callback", [leading, RDropCallback, FraternalDropoutCallback])
def test_a_step_leaves_the_trace_of_one_run(callback: Any) -> None:
    module, metrics = fitted(takes_apart, callback(weight=1e-30, rate=0.0) if callback is not leading else leading())
    plainly, expected = fitted(takes_apart)
    assert module.steps == plainly.steps == 2
    assert metrics["train/count"] == expected["train/count"] == 3
    if callback is not leading:  # which masks the base pass
        assert metrics["train/acc"] == expected["train/acc"]


def augments(module: Module, batch: dict[str, Tensor]) -> Any:
    """Draw noise in front of the forward, and a weight behind it."""
    noise = torch.randn(batch["x"].shape, dtype=torch.float64)
    output = module(batch["x"] + noise)
    weight = torch.rand(())
    SEEN.append(weight.item() + noise.sum().item())
    return weight * own(output, batch["y"])


SEEN: list[float] = []


def test_a_step_draws_again_what_it_drew() -> None:
    SEEN.clear()
    fitted(augments, leading())
    first, again, second, again_second = SEEN
    assert (first, second) == (again, again_second)
    SEEN.clear()
    fitted(augments)
    assert [first, second] == SEEN


def pair(module: Module, batch: dict[str, Tensor]) -> Any:
    """Compare two forward passes, as siamese networks do."""
    first, second = module(batch["x"]), module(batch["x"].flip(1))
    return (first["logits"] - second["logits"]).square().mean() + own(first, batch["y"])


def test_of_several_calls_each_has_another_result_by_turns() -> None:
    terms: list[Penalty] = []
    callback = RDropCallback(rate=0.3, weight=1e-12, divergence="kl")
    callback.listeners.append(terms.append)
    module, _ = fitted(pair, callback, limit_train_batches=1)
    assert len(terms) == 2
    losses = [penalty.supervised for penalty in terms]
    assert losses[0] is not None
    assert losses[0] != losses[1]
    # Each has a gradient to the whole network, through both calls.
    assert all(gradient.abs().sum() > 0 for gradient in module.gradients)


@pytest.mark.parametrize("method", [RDropCallback, FraternalDropoutCallback])
def test_any_loss_will_do_without_labels(method: Any) -> None:
    def without_labels(module: Module, batch: Any) -> Any:
        return own(module(batch), torch.arange(BATCH) % CLASSES)

    L.seed_everything(2, verbose=False)
    module = Module(without_labels)
    data: Any = DataLoader([each["x"] for each in batches().dataset], BATCH)  # type: ignore[arg-type, attr-defined]
    quiet_trainer(callbacks=[method(rate=0.3, divergence="mse")], max_epochs=1).fit(module, data)
    assert all(gradient.isfinite().all() for gradient in module.gradients)


def test_a_step_without_a_loss_for_another_prediction_is_refused() -> None:
    SEEN.clear()

    def forgets(module: Module, batch: dict[str, Tensor]) -> Any:
        SEEN.append(0.0)
        loss = plain(module, batch)
        return loss if len(SEEN) == 1 else None

    with refused("training_step", "must compute a loss by the same forward passes", "got another course"):
        fitted(forgets, leading())


class OwnGenerator(Module):
    """Draws a weight from a generator of its own, behind a forward that draws from it, too."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.draws = np.random.default_rng(0)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x + torch.from_numpy(self.draws.normal(size=x.shape)))


def weighs(module: Module, batch: dict[str, Tensor]) -> Any:
    output = module(batch["x"])
    SEEN.append(module.draws.random())  # type: ignore[operator, union-attr]
    return SEEN[-1] * own(output, batch["y"])


def test_generators_of_its_own_go_on_behind_the_forward_as_they_did() -> None:
    SEEN.clear()
    L.seed_everything(2, verbose=False)
    module = OwnGenerator(weighs)
    quiet_trainer(callbacks=[leading()], max_epochs=1).fit(module, batches())
    first, again, second, again_second = SEEN
    assert (first, second) == (again, again_second)
    assert first != second


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor")
def test_a_step_that_takes_batches_itself_is_refused() -> None:
    loader = iter(batches())

    def takes(module: Module, batch: dict[str, Tensor]) -> Any:
        return plain(module, next(loader))

    with refused("training_step", "must not take batches from a data loader itself", "both_losses=True"):
        fitted(takes, leading())

    class FromIterator(Module):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            return plain(self, next(dataloader_iter)[0])

    with refused("both_losses=True", "a training_step that takes batches from dataloader_iter"):
        quiet_trainer(callbacks=[RDropCallback()], max_epochs=1).fit(FromIterator(plain), batches())


def test_two_callbacks_that_halve_the_loss_are_refused() -> None:
    with refused("both_losses", "at most one callback", "AdversarialDropoutCallback and FraternalDropoutCallback"):
        fitted(plain, leading(), FraternalDropoutCallback(divergence="mse_logits"))
    fitted(plain, leading(), RDropCallback(rate=0.1, divergence="kl"))


DRAWS = np.random.default_rng(0)


class DrawsGlobally(Module):
    """Draws a weight from a generator that belongs to no module."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        SEEN.append(DRAWS.random())
        return SEEN[-1] * plain(self, batch)


def test_globals_that_a_step_names_go_on_as_they_did() -> None:
    SEEN.clear()
    expected = np.random.default_rng(0).random(2).tolist()
    quiet_trainer(callbacks=[leading()], max_epochs=1).fit(DrawsGlobally(plain), batches())
    assert expected[0] in SEEN
    assert expected[1] in SEEN
    assert set(SEEN) == set(expected)

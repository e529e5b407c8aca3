"""What a trainer can do and what models can be made of: accumulation, precision, metrics, hooks, frozen parts."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.messages import refused
from tests.helpers.plain_models import CLASSES, PlainModel, QuietModel, fitted_weights, loader, quiet_trainer, seeded
from tests.helpers.releases import since


def to_the_label(**arguments: Any) -> AdversarialDropoutCallback:
    """A callback that draws nothing at random."""
    return AdversarialDropoutCallback(rate=0.2, divergence="ce", start="ones", share_masks=True, **arguments)


def weights(model: L.LightningModule, batch_size: int, *callbacks: L.Callback, **trainer: Any) -> dict[str, Tensor]:
    quiet_trainer(callbacks=list(callbacks), **trainer).fit(model, loader(batch_size))
    return model.state_dict()


def close(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 1e-6) -> bool:
    return all(torch.allclose(first[name], second[name], rtol=0, atol=tolerance) for name in first)


def test_accumulated_halves_equal_the_whole_batch() -> None:
    whole = weights(seeded(QuietModel), 16, to_the_label())
    halves = weights(seeded(QuietModel), 8, to_the_label(), accumulate_grad_batches=2)
    assert close(whole, halves)
    assert not close(whole, weights(seeded(QuietModel), 16))


def test_gradients_are_clipped_with_the_penalty_in_them() -> None:
    """A step of SGD with the rate 0.1 moves no further than the clipped norm allows."""
    model = seeded(QuietModel)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    callback = to_the_label(weight=100.0)
    after = weights(model, 16, callback, gradient_clip_val=0.01, max_epochs=1, limit_train_batches=1)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm()
    assert moved.item() == pytest.approx(0.1 * 0.01, rel=1e-3)


class WithGRU(PlainModel):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.GRU(4, 12, num_layers=2, dropout=0.1, batch_first=True)  # type: ignore[assignment]


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")  # torch's, on leaving the context
@pytest.mark.parametrize("factory", [PlainModel, WithGRU])
def test_bfloat16(factory: type[PlainModel]) -> None:
    # oneDNN's own LSTM trains in this precision only on CPUs that have instructions for it.
    with torch.backends.mkldnn.flags(enabled=False):
        trainer = quiet_trainer(callbacks=[AdversarialDropoutCallback(rate=0.1)], precision="bf16-mixed")
        model = seeded(factory)
        trainer.fit(model, loader())
        plain = fitted_weights(seeded(factory), precision="bf16-mixed")
    assert trainer.callback_metrics["advdrop/divergence"] > 0
    assert all(value.dtype is torch.float32 and value.isfinite().all() for value in model.state_dict().values())
    assert not close(plain, model.state_dict(), 0)


class Watched(QuietModel):
    """Has running statistics, logs and a metric inside its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)
        self.accuracy = MulticlassAccuracy(CLASSES)
        self.labels: Any = None

    def forward(self, x: Tensor) -> Any:
        logits = self.head(self.norm(self.lstm(x)[0][:, -1]))
        self.log("inside", logits.mean(), on_step=True, on_epoch=True)
        self.log_dict({"spread": logits.std()}, on_step=False, on_epoch=True)
        self.accuracy.update(logits, self.labels)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        self.labels = batch[1]
        loss = super().training_step(batch, batch_idx)
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize("share_masks", [False, True])
def test_statistics_logs_and_metrics_are_those_of_the_base_pass(share_masks: bool) -> None:
    def fitted(*callbacks: L.Callback) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
        trainer = quiet_trainer(callbacks=list(callbacks), max_epochs=1)
        model = seeded(Watched)
        counts: list[int] = []
        trainer.callbacks.append(Counts(counts))  # type: ignore[attr-defined]
        trainer.fit(model, loader())
        return model.state_dict(), dict(trainer.callback_metrics), counts[-1]

    state, metrics, updates = fitted()
    # Of the searches, only this one leaves the base pass unmasked, so that it is the plain one to the bit.
    callback = AdversarialDropoutCallback(rate=0.2, search="gradient", share_masks=share_masks)
    other_state, other_metrics, other_updates = fitted(callback)
    assert all(torch.equal(state[name], other_state[name]) for name in state)
    assert other_metrics["advdrop/divergence"] > 0
    assert {name: other_metrics[name] for name in metrics} == metrics
    assert updates == other_updates == 4


class Counts(L.Callback):
    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, Watched)
        self.counts.append(pl_module.accuracy._update_count)


def test_hooks_of_the_whole_model_run_once_and_those_of_its_parts_in_every_pass() -> None:
    calls: list[str] = []
    model = seeded(PlainModel)
    for name, part in (("model", model), ("head", model.head)):
        part.register_forward_hook(lambda *_, name=name: calls.append(name))
    quiet_trainer(callbacks=[AdversarialDropoutCallback()], max_epochs=1, limit_train_batches=1).fit(model, loader())
    assert calls.count("model") == 1
    assert calls.count("head") == 2  # base and adversarial pass


@pytest.mark.parametrize("part", ["lstm", "head"])
def test_a_part_may_be_frozen(part: str) -> None:
    def frozen() -> PlainModel:
        model: PlainModel = seeded(PlainModel)
        model.get_submodule(part).requires_grad_(False)
        return model

    before = frozen().state_dict()
    callback = AdversarialDropoutCallback(rate=0.2)
    found: list[float] = []
    callback.listeners.append(lambda penalty: found.append(float(penalty.metrics["flip_rate"])))
    after, plain = fitted_weights(frozen(), callback), fitted_weights(frozen())
    moved = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"lstm", "head"} - {part}
    assert not close(after, plain, 0)
    assert min(found) > 0


class FrozenForward(PlainModel):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            return super().forward(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0]), batch[1]) + self.head.bias.sum()


def test_a_prediction_without_a_gradient_is_refused() -> None:
    with refused("module", "gradient", "torch.no_grad()"):
        fitted_weights(seeded(FrozenForward), AdversarialDropoutCallback())


class MadeLate(PlainModel):
    """Makes its layers in Lightning's hook for that."""

    def __init__(self) -> None:
        super().__init__()
        del self.lstm

    def configure_model(self) -> None:
        if not hasattr(self, "lstm"):
            self.lstm = nn.LSTM(4, 12, num_layers=2, batch_first=True)


def test_layers_may_be_made_in_configure_model() -> None:
    callback = AdversarialDropoutCallback()
    fitted_weights(seeded(MadeLate), callback)
    assert [site.name for site in callback.sites] == ["lstm.l0:recurrent", "lstm.l1:recurrent"]


class NotFinite(PlainModel):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * float("nan")


@pytest.mark.parametrize("arguments", [{}, {"divergence": "mse", "start": "ones"}, {"divergence": "ce"}], ids=str)
def test_a_prediction_that_is_not_finite_is_said(arguments: Any) -> None:
    with refused("prediction", "NaN", "infinity", "learning rate", error=FloatingPointError):
        fitted_weights(seeded(NotFinite), AdversarialDropoutCallback(**arguments))


class ParameterGroups(PlainModel):
    def configure_optimizers(self) -> Any:
        groups = [{"params": self.lstm.parameters(), "lr": 0.01}, {"params": self.head.parameters(), "lr": 0.1}]
        optimizer = torch.optim.SGD(groups, lr=0.0)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}


def test_parameter_groups_with_a_schedule() -> None:
    trained = fitted_weights(seeded(ParameterGroups), AdversarialDropoutCallback(rate=0.2))
    assert not close(trained, fitted_weights(seeded(ParameterGroups)), 0)


class SkipsAll(PlainModel):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`", "ignore:sites. lstm")
def test_skipped_steps_leave_the_weights_alone() -> None:
    before = seeded(SkipsAll).state_dict()
    assert close(before, fitted_weights(seeded(SkipsAll), AdversarialDropoutCallback()), 0)


class ResetsInValidation(PlainModel):
    """After a validation, the states of its metric are tensors of inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy = MulticlassAccuracy(3)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.accuracy.update(self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        self.log("val/accuracy", self.accuracy.compute())
        self.accuracy.reset()


@since(2, 6, "plain training fails there, too, in earlier ones")
@pytest.mark.parametrize("sanity", [0, 2])
def test_a_fit_behind_a_validation(sanity: int) -> None:
    model = seeded(ResetsInValidation)
    trainer = quiet_trainer(callbacks=[AdversarialDropoutCallback()], num_sanity_val_steps=sanity)
    trainer.validate(model, loader(), verbose=False)
    assert any(value.is_inference() for value in vars(model.accuracy).values() if isinstance(value, Tensor))
    trainer.fit(model, loader(), loader())
    assert trainer.callback_metrics["train/penalty"] > 0

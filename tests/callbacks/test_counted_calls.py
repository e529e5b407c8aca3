"""Which forward passes of a step count: the outermost module's, those that the loss depends on."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, RDropCallback
from lightning_advdrop.callbacks.counted_calls import depends_on
from tests.helpers.layered import ALIKE, Layered, Step, features_after, features_before, plain
from tests.helpers.messages import refused
from tests.helpers.plain_models import loader, quiet_trainer, seeded


def divergences(step: Step, **arguments: Any) -> list[float]:
    callback = AdversarialDropoutCallback(rate=0.3, divergence="kl", **arguments)
    found: list[float] = []
    callback.listeners.append(lambda penalty: found.append(penalty.value.item()))
    fit(step, callback)
    return found


def fit(step: Step, *callbacks: L.Callback, batches: int = 3, validated: int = 0) -> L.Trainer:
    model: Layered = seeded(Layered, step)
    L.seed_everything(3, verbose=False)
    trainer = quiet_trainer(
        callbacks=list(callbacks), max_epochs=1, limit_train_batches=batches, limit_val_batches=validated
    )
    trainer.fit(model, loader(), loader())
    return trainer


def one_after_another(*steps: Step) -> Step:
    left = iter(steps)

    def step(model: Layered, x: Tensor, y: Tensor) -> Tensor:
        return next(left)(model, x, y)

    return step


def halved_in_place(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    prediction: Tensor = model(x)
    prediction /= 2
    return F.cross_entropy(prediction, y)


def halved(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    loss: Tensor = F.cross_entropy(model(x) / 2, y)
    return loss


def features_in_place(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    """Write to what is not compared."""
    loss = plain(model, x, y)
    with torch.no_grad():
        model(2 * x).zero_()
    return loss


def test_a_step_that_writes_to_the_prediction_is_refused() -> None:
    with refused(
        "module",
        "must not write to the prediction",
        "got one that it changed in place after the forward",
        "write p = p / 2 instead of p /= 2",
    ):
        divergences(halved_in_place)
    assert divergences(halved)
    assert divergences(features_in_place) == divergences(plain)


class Validates(Layered):
    """Compute the same in validation as in training."""

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.training_step(batch, batch_idx))


def test_a_training_step_that_validation_calls_has_no_penalty() -> None:
    found = []
    for callbacks in ([], [AdversarialDropoutCallback(rate=0.3, weight=5.0, divergence="kl")]):
        model = seeded(Validates, plain)
        trainer = quiet_trainer(callbacks=callbacks, max_epochs=1, limit_train_batches=1, limit_val_batches=2)
        trainer.validate(model, loader(), verbose=False)
        before = trainer.callback_metrics["val/loss"]
        trainer.fit(model, loader(), loader())
        after = trainer.callback_metrics["val/loss"]
        assert after == trainer.validate(model, loader(), verbose=False)[0]["val/loss"]
        found.append(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("step", ALIKE)
def test_only_what_is_trained_of_the_outermost_module_is_compared(step: Step) -> None:
    assert divergences(step) == divergences(plain)


def test_what_is_inside_the_outermost_module_is_recorded_in_the_first_step_only() -> None:
    recorded: list[str] = []

    class Counting(AdversarialDropoutCallback):
        def recorded_forward(self, module: nn.Module) -> Any:
            recorded.append(type(module).__name__)
            return super().recorded_forward(module)

    fit(features_before, Counting(rate=0.3))
    assert recorded == ["Encoder", "Layered", "Layered", "Layered"]


def siamese(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    """Two calls that are trained, and one without a gradient between them."""
    loss = plain(model, x, y)
    with torch.no_grad():
        model(2 * x)
    return loss + plain(model, -x, y)


def test_trained_calls_of_equal_rank_are_averaged_and_all_calls_of_the_module_are_numbered() -> None:
    same: dict[str, Any] = {"start": "ones", "share_masks": True}

    def chosen(call: int | None) -> float:
        callback = AdversarialDropoutCallback(rate=0.3, divergence="ce", call=call, **same)
        return float(fit(siamese, callback, batches=1).callback_metrics["advdrop/divergence"])

    assert chosen(None) == pytest.approx((chosen(0) + chosen(2)) / 2, rel=1e-6)
    with refused("module", "gradient", "torch.no_grad()", "call"):
        chosen(1)
    with refused("call", 0, 3, 3):
        chosen(3)


def test_features_are_not_numbered() -> None:
    assert divergences(features_before, call=0) == divergences(plain)


def without_self(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model.head(model.encoder(x)), y)


def test_a_step_that_calls_the_parts_compares_the_outermost_of_them() -> None:
    assert divergences(without_self) == divergences(plain, module="encoder")


def no_gradient(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        features = model.encoder(x)
    return F.cross_entropy(model.head(features), y)


def test_a_step_without_any_gradient_is_refused() -> None:
    with refused("module", "gradient", "torch.no_grad()", "call"):
        fit(no_gradient, AdversarialDropoutCallback())


def test_a_step_that_calls_less_than_an_earlier_one_is_refused() -> None:
    with refused("module", "''", "'encoder'", "module='encoder'"):
        fit(one_after_another(plain, without_self), AdversarialDropoutCallback())


def test_a_step_that_calls_more_than_an_earlier_one_is_compared_there() -> None:
    callback = AdversarialDropoutCallback(divergence="kl")
    fit(one_after_another(without_self, plain, features_before), callback)
    assert callback.counted == ""


def test_which_module_counts_is_resumed(tmp_path: Any) -> None:
    """The base pass of R-Drop draws a mask for each call that is recorded."""

    def trained(*epochs: int) -> dict[str, Tensor]:
        path = None
        for until in epochs:
            model = seeded(Layered, features_before)
            L.seed_everything(3, verbose=False)
            trainer = quiet_trainer(
                callbacks=[RDropCallback(rate=0.3)], max_epochs=until, limit_train_batches=2, limit_val_batches=0
            )
            trainer.fit(model, loader(), loader(), ckpt_path=path, weights_only=True)
            path = tmp_path / f"{until}.ckpt"
            trainer.save_checkpoint(path)
        weights: dict[str, Tensor] = model.state_dict()
        return weights

    whole, resumed = trained(2), trained(1, 2)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_a_graph_is_walked_from_the_loss() -> None:
    weight = torch.ones(2, requires_grad=True)
    first, second, third = weight * 2, weight.exp(), weight.sin()
    assert depends_on((first * second).sum().log(), [first, second, third]) == [True, True, False]
    assert depends_on(None, [first]) == depends_on(torch.ones(()), [first]) == [False]


@pytest.mark.parametrize("step", [features_after, features_before])
def test_the_monitor_compares_the_outermost_module(step: Step) -> None:
    def gaps(step: Step) -> tuple[float, float]:
        metrics = fit(step, InferenceGapMonitor(limit_batches=2, rate=0.3), validated=2).callback_metrics
        return float(metrics["gap/random"]), float(metrics["gap/adversarial"])

    assert gaps(step) == gaps(plain)


class Scored(Layered):
    def forward(self, x: Tensor, **_: Any) -> Any:
        return {"scores": super().forward(x)}


def scored(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    features: Tensor = model.encoder(x)
    return 0 * features.mean() + F.cross_entropy(model(x)["scores"], y)


@pytest.mark.parametrize("callback", [AdversarialDropoutCallback, InferenceGapMonitor])
def test_the_prediction_is_not_looked_for_in_features(callback: Any) -> None:
    model = seeded(Scored, scored)
    trainer = quiet_trainer(callbacks=[callback(output=lambda result: result["scores"])], max_epochs=1)
    trainer.fit(model, loader(), loader())
    assert len(trainer.callback_metrics) > 1

"""The callback on LightningModules that know nothing of it."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.messages import refused
from tests.helpers.plain_models import PlainModel, fitted_weights, loader, quiet_trainer, seeded


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("off", [{"weight": 0.0}, {"rate": 0.0}], ids=str)
def test_switched_off_it_is_plain_training_to_the_bit(off: dict[str, float]) -> None:
    plain = fitted_weights(seeded(PlainModel))
    assert same(plain, fitted_weights(seeded(PlainModel), AdversarialDropoutCallback(**off)))  # type: ignore[arg-type]


@pytest.mark.parametrize("sites", ["recurrent", "weight", ["lstm.l1:recurrent", "lstm.l0:weight"]], ids=str)
@pytest.mark.parametrize(
    "more", [{}, *({"search": "gradient", "share_masks": share} for share in (False, True))], ids=str
)
def test_penalty_is_positive_and_logged(sites: Any, more: dict[str, Any]) -> None:
    callback = AdversarialDropoutCallback(sites=sites, rate=0.2, weight=0.5, **more)
    trainer = quiet_trainer(callbacks=[callback])
    trainer.fit(seeded(PlainModel), loader())
    metrics = trainer.callback_metrics
    assert metrics["advdrop/weight"] == 0.5
    assert 0 < metrics["advdrop/flip_rate"] <= 0.2
    assert metrics["advdrop/divergence"] > 0
    torch.testing.assert_close(metrics["train/penalty"], 0.5 * metrics["advdrop/divergence"])


def test_the_base_pass_draws_what_plain_training_draws() -> None:
    """Other passes leave the global generators alone, so dropout and shuffling stay those of the plain run."""
    drawn: list[list[Tensor]] = []
    for callbacks in ([], [AdversarialDropoutCallback(rate=0.1)]):
        states: list[Tensor] = []

        class Watch(L.Callback):
            def __init__(self, states: list[Tensor] = states) -> None:
                self.states = states

            def on_train_batch_end(self, *args: Any) -> None:
                self.states.append(torch.get_rng_state())

        fitted_weights(seeded(PlainModel), *callbacks, Watch())
        drawn.append(states)
    assert all(torch.equal(first, second) for first, second in zip(*drawn, strict=True))


class ReturnsDict(PlainModel):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        if batch_idx == 1:
            return None
        return {"loss": super().training_step(batch, batch_idx), "note": "kept"}


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_steps_may_return_a_dict_or_nothing() -> None:
    assert not same(
        fitted_weights(seeded(ReturnsDict)), fitted_weights(seeded(ReturnsDict), AdversarialDropoutCallback(rate=0.1))
    )


class InnerModel(L.LightningModule):
    """Calls a submodule, twice, which returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _DictNetwork()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.network(x)["scores"], y) + F.cross_entropy(self.network.forward(-x)["scores"], y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class _DictNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = PlainModel()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": self.model(x), "extra": x}


def test_a_submodule_with_a_dict_is_found_and_each_call_counts() -> None:
    calls: list[int] = []

    class Counting(AdversarialDropoutCallback):
        def penalty(self, calls_made: Any, *args: Any) -> Any:
            calls.append(len(calls_made))
            return super().penalty(calls_made, *args)

    quiet_trainer(callbacks=[Counting(output="scores", rate=0.1)], max_epochs=1).fit(seeded(InnerModel), loader())
    assert calls == [2] * 4


def test_the_output_must_be_found() -> None:
    with refused("output=None", "NoneType", "dict", "scores, extra"):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(seeded(InnerModel), loader())


def test_the_weight_ramps_up() -> None:
    weights = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            weights.append(round(float(trainer.callback_metrics["advdrop/weight"]), 4))

    callback = AdversarialDropoutCallback(weight=2.0, rampup_epochs=2, rate=0.1)
    quiet_trainer(callbacks=[callback, Watch()], max_epochs=3).fit(seeded(PlainModel), loader())
    assert weights == [0.0135, 0.573, 2.0]


def test_a_step_set_on_the_object_comes_back() -> None:
    model = seeded(PlainModel)
    own = model.training_step
    model.training_step = own
    fitted_weights(model, AdversarialDropoutCallback())
    assert vars(model)["training_step"] == own


def test_validation_is_not_regularized() -> None:
    class Validated(PlainModel):
        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    trainer = quiet_trainer(callbacks=[AdversarialDropoutCallback(rate=0.1)])
    trainer.fit(seeded(Validated), loader(), loader())
    assert trainer.callback_metrics["val_loss"] > 0

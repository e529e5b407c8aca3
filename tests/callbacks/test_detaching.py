"""What is left of a fit: nothing, however it ends."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer, seeded
from tests.helpers.releases import EMAWeightAveraging, since
from tests.helpers.traces import traces


class Fails(PlainModel):
    """Raises in its second step, in one of these places."""

    def __init__(self, place: str, error: type[BaseException]) -> None:
        super().__init__()
        self.place, self.error, self.step, self.passes = place, error, 0, 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        self.step, self.passes = batch_idx, 0
        self._fail_at("before the forward")
        loss = super().training_step(batch, batch_idx)
        self._fail_at("after the forward")
        return loss

    def forward(self, x: Tensor) -> Any:
        output, _ = self.lstm(x)
        self._fail_at("in the forward")
        return self.head(output[:, -1])

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        self._fail_at("in a hook")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._fail_at("in validation")

    def _fail_at(self, place: str) -> None:
        if self.step == 1 and place == self.place:
            raise self.error(place)


PLACES = ["before the forward", "in the forward", "after the forward", "in a hook", "in validation"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("place", PLACES)
def test_an_error_leaves_what_it_leaves_without_the_callback(place: str, error: type[BaseException]) -> None:
    left = []
    for callbacks in ([], [AdversarialDropoutCallback(), AdversarialDropoutCallback(sites="weight")]):
        model = seeded(Fails, place, error)
        trainer = quiet_trainer(callbacks=callbacks, val_check_interval=2, num_sanity_val_steps=0)
        with pytest.raises((error, SystemExit)):
            trainer.fit(model, loader(), loader())
        left.append(traces(model))
    assert left[0] == left[1]


class FailsAgain(PlainModel):
    """Raises when its forward runs once more under masks."""

    passes = 0

    def forward(self, x: Tensor) -> Any:
        FailsAgain.passes += 1
        if FailsAgain.passes == 2:
            raise RuntimeError("second pass")
        return super().forward(x)


def test_an_error_in_a_pass_of_our_own_leaves_nothing() -> None:
    model = seeded(FailsAgain)
    before = traces(model)["lstm"], list(model.state_dict())
    with pytest.raises(RuntimeError, match="second pass"):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(model, loader())
    assert (traces(model)["lstm"], list(model.state_dict())) == before
    assert not {"forward", "training_step", "log", "log_dict"} & vars(model).keys()


def test_a_fitted_model_is_one_that_was_fitted_plainly() -> None:
    plain, model = seeded(PlainModel), seeded(PlainModel)
    quiet_trainer().fit(plain, loader())
    quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(model, loader())
    assert traces(plain) == traces(model)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert traces(again) == traces(model)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


class WithValidation(PlainModel):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self(batch[0]).square().mean())


class Copies(WithValidation):
    """Copies itself where it is asked to, in its second step."""

    place: str = ""
    made: Any = ()
    busy = False

    def copy_at(self, place: str) -> None:
        if place != self.place or self.busy:
            return
        Copies.busy = True
        Copies.made = (copy.deepcopy(self), copy.copy(self), pickle.loads(pickle.dumps(self)), copy.deepcopy(self.lstm))
        Copies.busy = False

    def forward(self, x: Tensor) -> Any:
        self.copy_at("forward")
        return super().forward(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        self.copy_at("step")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.copy_at("validation")
        super().validation_step(batch, batch_idx)

    def on_train_batch_end(self, *args: Any) -> None:
        self.copy_at("batch end")

    def on_train_epoch_end(self) -> None:
        self.copy_at("epoch end")


@pytest.mark.parametrize("place", ["forward", "step", "validation", "batch end", "epoch end"])
def test_copies_that_are_made_during_a_fit_have_no_trace(place: str) -> None:
    names = set(vars(seeded(PlainModel)))
    monitored = [AdversarialDropoutCallback(), AdversarialDropoutCallback("weight"), InferenceGapMonitor()]
    model = seeded(Copies)
    Copies.place = place
    quiet_trainer(callbacks=monitored, max_epochs=1, limit_train_batches=2, num_sanity_val_steps=0).fit(
        model, loader(), loader()
    )
    assert len(Copies.made) == 4
    for made in Copies.made[:3]:
        added = set(vars(made)) - names
        assert not {name for name in added if name in dir(PlainModel) or name.startswith("__")}
        assert made.training_step.__func__ is Copies.training_step
        assert made.forward.__func__ is Copies.forward
        assert made.forward.__self__ is made
        x = torch.randn(2, 5, 4)
        made.busy = True
        assert torch.equal(made.eval()(x), type(made).forward(made, x))
    assert traces(Copies.made[3]) == traces(seeded(PlainModel).lstm)


@since(2, 6, "the average came with it")
def test_an_average_of_the_weights_is_that_of_the_weights() -> None:
    """Lightning's own averaging copies the model, swaps the copy in for validation, and goes on."""
    weights: list[dict[str, Tensor]] = []
    for _ in range(2):
        L.seed_everything(3, verbose=False)
        average = EMAWeightAveraging(decay=0.5)
        model = seeded(WithValidation)
        quiet_trainer(callbacks=[average, AdversarialDropoutCallback()][:: 1 - 2 * len(weights)], max_epochs=2).fit(
            model, loader(), loader()
        )
        assert "training_step" not in vars(model)
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_second_fit_and_a_validation_work_as_the_first() -> None:
    model = seeded(PlainModel)
    callback = AdversarialDropoutCallback()
    for _ in range(2):
        trainer = quiet_trainer(callbacks=[callback], max_epochs=1)
        trainer.fit(model, loader())
        assert trainer.callback_metrics["advdrop/divergence"] > 0
    assert "training_step" not in vars(model)


def test_a_tuner_that_stops_the_fit_leaves_nothing() -> None:
    """Lightning's tuner ends a fit with an exception of its own, after which only `teardown` is called."""

    class Stops(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            from lightning.pytorch.utilities.exceptions import _TunerExitException

            raise _TunerExitException

    model = seeded(PlainModel)
    quiet_trainer(callbacks=[AdversarialDropoutCallback(), Stops()]).fit(model, loader())
    assert "training_step" not in vars(model)


def test_checkpoints_load_without_this_package(tmp_path: Path) -> None:
    trainer = quiet_trainer(
        callbacks=[AdversarialDropoutCallback()], max_epochs=1, enable_checkpointing=True, default_root_dir=tmp_path
    )
    model = seeded(PlainModel)
    trainer.fit(model, loader())
    path = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    code = f"""
import sys
sys.modules["lightning_advdrop"] = None  # makes any import of it fail
import torch
checkpoint = torch.load({path!r}, weights_only=True)
print(*checkpoint["state_dict"])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.split() == list(model.state_dict())

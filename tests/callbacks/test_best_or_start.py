"""The best weights of a fit, the start weights among them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_advdrop import BestOrStartCheckpoint, NonMonotonicAveraging
from tests.helpers.averaging_models import Scripted, flat, flat_state
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer, seeded

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")


class StartingWith(Scripted):
    """A model whose validation loss before the fit is given."""

    def __init__(self, start: float, script: tuple[float, ...]) -> None:
        super().__init__(script)
        self.start = start
        self.sanity = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.trainer.sanity_checking:
            self.sanity += 1
            self.log("val/loss", self.start)
        else:
            super().validation_step(batch, batch_idx)


def fit(folder: Path, start: float, script: tuple[float, ...], **more: Any) -> tuple[StartingWith, Any, torch.Tensor]:
    """The model after a fit, its callback, and the start weights."""
    L.seed_everything(1, verbose=False)
    model = StartingWith(start, script)
    begin = flat(model).clone()
    saving = BestOrStartCheckpoint(folder, "best", monitor="val/loss", **more.pop("saving", {}))
    averaging = NonMonotonicAveraging(5, from_start=True)
    settings: dict[str, Any] = {"max_epochs": len(script), "num_sanity_val_steps": -1, "callbacks": [averaging, saving]}
    quiet_trainer(enable_checkpointing=True, **(settings | more)).fit(model)
    return model, saving, begin


def saved(path: Any) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


@pytest.mark.parametrize(
    ("start", "best"),
    [(1.5, "start"), (2.0, "start"), (2.5, "second"), (math.nan, "second"), (math.inf, "second")],
)
def test_the_start_weights_are_kept_unless_something_is_better(tmp_path: Path, start: float, best: str) -> None:
    model, saving, begin = fit(tmp_path, start, (3.0, 2.0, 2.25))
    assert model.sanity > 1  # batches: the whole validation
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
    assert saving.best_model_path == str(tmp_path / "best.ckpt")
    assert float(saving.best_model_score) == (start if best == "start" else 2.0)
    kept = flat_state(model, saved(tmp_path / "best.ckpt")["state_dict"])
    assert torch.equal(kept, begin if best == "start" else model.validated[1])


def test_several_are_kept_with_the_start_among_them(tmp_path: Path) -> None:
    _, saving, _ = fit(tmp_path, 2.4, (3.0, 2.0, 2.25), saving={"save_top_k": 2})
    assert sorted(float(score) for score in saving.best_k_models.values()) == [2.0, 2.25]
    assert len(list(tmp_path.iterdir())) == 2


def test_training_is_that_without_a_look_at_the_start(tmp_path: Path) -> None:
    model, _, _ = fit(tmp_path / "one", 1.5, (3.0, 2.0))
    plain = ModelCheckpoint(tmp_path / "two", "best", monitor="val/loss")
    other, _, _ = fit(tmp_path / "one", 1.5, (3.0, 2.0), callbacks=[NonMonotonicAveraging(5, from_start=True), plain])
    assert torch.equal(flat(model), flat(other))


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_text("another run's")
    model, saving, begin = fit(tmp_path, 1.5, (3.0,))
    assert (tmp_path / "best.ckpt").read_text() == "another run's"
    assert torch.equal(flat_state(model, saved(saving.best_model_path)["state_dict"]), begin)


def test_a_resumed_fit_goes_on_with_the_start(tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path / "last", "last")

    def both(folder: str) -> list[Any]:
        saving = BestOrStartCheckpoint(tmp_path / folder, "best", monitor="val/loss")
        return [NonMonotonicAveraging(5, from_start=True), saving, last]

    fit(tmp_path, 1.5, (3.0, 2.0), callbacks=both("runs"), max_epochs=1)
    model = StartingWith(0.0, (3.0, 2.0))
    resumed = both("runs")
    trainer = quiet_trainer(enable_checkpointing=True, max_epochs=2, num_sanity_val_steps=-1, callbacks=resumed)
    trainer.fit(model, ckpt_path=tmp_path / "last" / "last.ckpt", weights_only=True)
    assert float(resumed[1].best_model_score) == 1.5


def test_a_trainer_that_does_not_validate_the_start_is_refused(tmp_path: Path) -> None:
    with refused("num_sanity_val_steps=-1", 2, error=MisconfigurationException):
        fit(tmp_path, 1.5, (3.0,), num_sanity_val_steps=2)
    without = BestOrStartCheckpoint(tmp_path)
    with refused("monitor", None, error=MisconfigurationException):
        fit(tmp_path, 1.5, (3.0,), callbacks=[without])


def test_a_metric_that_is_not_logged_is_refused(tmp_path: Path) -> None:
    with refused("monitor", "'val/other'", "val/loss"):
        fit(tmp_path, 1.5, (3.0,), callbacks=[BestOrStartCheckpoint(tmp_path, monitor="val/other")])


def test_a_trial_run_saves_nothing(tmp_path: Path) -> None:
    saving = BestOrStartCheckpoint(tmp_path, "best", monitor="val/loss")
    quiet_trainer(enable_checkpointing=True, fast_dev_run=True, callbacks=[saving], max_epochs=1).fit(seeded(Scripted))
    assert not list(tmp_path.iterdir())

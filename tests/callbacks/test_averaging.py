"""Averages of the weights: when they begin, that they are evaluated and saved, and that a run can be resumed."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lightning_advdrop import (
    AdversarialDropoutCallback,
    GlobalRandomState,
    NonMonotonicAveraging,
)
from tests.helpers.averaging_models import (
    STEPS_AN_EPOCH,
    Scripted,
    Weights,
    averaged_fit,
    every_step,
    flat,
    flat_state,
)
from tests.helpers.messages import each_names
from tests.helpers.plain_models import PlainModel, loader, seeded
from tests.helpers.reference_averaging import first_fired, mean_of
from tests.helpers.releases import SAFE

# The script of `Scripted` fires after its fourth epoch.
FIRED = 4 * STEPS_AN_EPOCH

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")


@given(st.lists(st.floats(0, 4, width=16), max_size=30), st.integers(1, 6))
def test_the_test_fires_where_the_reference_says(losses: list[float], nonmono: int) -> None:
    averaging, growing = NonMonotonicAveraging(nonmono), NonMonotonicAveraging(nonmono, mode="max")
    fired = [averaging.observe(loss) for loss in losses]
    assert (fired.index(True) if any(fired) else None) == first_fired(losses, nonmono)
    assert [growing.observe(-loss) for loss in losses] == fired


def test_nan_is_the_worst_loss() -> None:
    averaging = NonMonotonicAveraging(1)
    assert [averaging.observe(loss) for loss in (math.nan, 2.0, 1.0, math.nan)] == [False, False, False, True]


def test_the_average_is_what_is_evaluated_saved_and_left(tmp_path: Path) -> None:
    model, weights = seeded(Scripted), Weights()
    averaging = NonMonotonicAveraging(1)
    averaged_fit(model, weights, averaging, every_step(tmp_path))
    assert len(weights.seen) == 32
    for epoch, evaluated in enumerate(model.validated, start=1):
        raw = weights.seen[: epoch * STEPS_AN_EPOCH]
        wanted = raw[-1] if epoch <= 4 else torch.tensor(mean_of([each.tolist() for each in raw[FIRED:]]))
        torch.testing.assert_close(evaluated, wanted, rtol=0, atol=0 if epoch <= 4 else 1e-6)
    for step in range(1, 33):
        saved = torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)
        assert ("current_model_state" in saved) == (step > FIRED)
        raw_state = saved["current_model_state"] if step > FIRED else saved["state_dict"]
        assert torch.equal(flat_state(model, raw_state), weights.seen[step - 1])
        if step > FIRED and step % STEPS_AN_EPOCH == 0:
            assert torch.equal(flat_state(model, saved["state_dict"]), model.validated[step // STEPS_AN_EPOCH - 1])
    assert torch.equal(flat(model), model.validated[-1])
    assert averaging.steps == 32 - FIRED


def test_raw_weights_are_trained_as_if_nothing_were_averaged(tmp_path: Path) -> None:
    plain, weights = Weights(), Weights()
    averaged_fit(seeded(Scripted), plain)
    averaged_fit(seeded(Scripted), weights, NonMonotonicAveraging(1))
    assert all(torch.equal(one, two) for one, two in zip(plain.seen, weights.seen, strict=True))


def test_nothing_is_copied_before_the_trigger(tmp_path: Path) -> None:
    model, averaging = seeded(Scripted), NonMonotonicAveraging(60)
    trainer = averaged_fit(model, averaging)
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    saved = torch.load(tmp_path / "after.ckpt", weights_only=True)
    assert averaging.average is None
    assert not {"current_model_state", "averaging_state"} & saved.keys()
    assert not averaging.averaging


def test_every_validation_counts(tmp_path: Path) -> None:
    """Two an epoch: the script's values come twice."""
    averaging = NonMonotonicAveraging(1)
    averaged_fit(seeded(Scripted, (3.0, 2.0, 2.5)), averaging, max_epochs=3, val_check_interval=0.5)
    assert averaging.steps == 2  # the sixth value is above the fourth


def test_a_checkpoint_that_is_tested_after_the_fit_is_its_average(tmp_path: Path) -> None:
    model = seeded(Scripted)
    # Lightning writes "last" only where it writes another one.
    saving = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/loss", save_last=True, save_top_k=-1)
    trainer = averaged_fit(model, NonMonotonicAveraging(1), saving, max_epochs=7)
    trainer.test(model, verbose=False)
    for which in ("last", "best"):
        trainer.test(model, ckpt_path=which, verbose=False, **SAFE)
    last, best = model.validated[-1], model.validated[1]
    assert all(torch.equal(one, two) for one, two in zip(model.tested, (last, last, best), strict=True))
    trainer.validate(model, ckpt_path=saving.best_model_path, verbose=False, **SAFE)
    assert torch.equal(model.validated[-1], best)


def test_a_checkpoint_that_is_saved_after_the_fit_can_be_resumed(tmp_path: Path) -> None:
    whole, resumed = seeded(Scripted), seeded(Scripted)
    averaged_fit(whole, NonMonotonicAveraging(1))
    trainer = averaged_fit(seeded(Scripted), NonMonotonicAveraging(1), max_epochs=6)
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    averaged_fit(resumed, NonMonotonicAveraging(1), ckpt_path=tmp_path / "after.ckpt")
    assert torch.equal(flat(whole), flat(resumed))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The checkpoints of an uninterrupted run, one for each step and each epoch, and its last one's content."""
    folder = tmp_path_factory.mktemp("whole")
    each_epoch = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    averaged_fit(seeded(Scripted), GlobalRandomState(), NonMonotonicAveraging(1), every_step(folder), each_epoch)
    return folder, torch.load(folder / "step=32.ckpt", weights_only=True)


# In an epoch and after one, before and after the trigger, which is in epoch 3. (The last step of an epoch is left out:
# Lightning resumes from it without the validation that was to follow.)
@pytest.mark.parametrize(
    "name", ["step=3", "epoch=1", "step=15", "epoch=3", "step=17", "step=18", "epoch=4", "step=27"]
)
def test_resuming_gives_the_bits_of_an_uninterrupted_run(
    whole_run: tuple[Path, dict[str, Any]], name: str, tmp_path: Path
) -> None:
    folder, wanted = whole_run
    saving = every_step(tmp_path), ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    averaged_fit(
        seeded(Scripted), GlobalRandomState(), NonMonotonicAveraging(1), *saving, ckpt_path=folder / f"{name}.ckpt"
    )
    found = torch.load(tmp_path / "step=32.ckpt", weights_only=True)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert wanted[part].keys() == found[part].keys()
        assert all(torch.equal(value, found[part][name]) for name, value in wanted[part].items())
    key = NonMonotonicAveraging().state_key
    assert found["callbacks"][key] == wanted["callbacks"][key]


def test_fine_tuning_averages_at_once_and_stops_when_the_test_fires() -> None:
    model, weights, averaging = seeded(Scripted), Weights(), NonMonotonicAveraging(1, from_start=True, stop=True)
    trainer = averaged_fit(model, weights, averaging)
    assert trainer.current_epoch == 4
    assert averaging.steps == FIRED
    wanted = torch.tensor(mean_of([each.tolist() for each in weights.seen]))
    torch.testing.assert_close(flat(model), wanted, rtol=0, atol=1e-6)


def test_values_before_the_trigger_do_not_stop_the_run() -> None:
    script = (3.0, 2.0, 2.5, 2.4, 2.9, 2.8, 2.85, 2.83, 2.0)  # the eighth is above the sixth
    averaging = NonMonotonicAveraging(1, stop=True)
    trainer = averaged_fit(seeded(Scripted, script), averaging, max_epochs=9)
    assert averaging.steps == 4 * STEPS_AN_EPOCH
    assert trainer.current_epoch == 8


def test_an_average_from_the_start_needs_no_validation() -> None:
    averaging = NonMonotonicAveraging(from_start=True)
    averaged_fit(seeded(Scripted), averaging, limit_val_batches=0, max_epochs=2)
    assert averaging.steps == 2 * STEPS_AN_EPOCH


def test_the_trigger_is_logged_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = CSVLogger(tmp_path)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        averaged_fit(seeded(Scripted), NonMonotonicAveraging(1, stop=True), logger=logger, log_every_n_steps=1)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        logged = [float(row["averaging/triggered"]) for row in csv.DictReader(file) if row["averaging/triggered"]]
    assert logged == [0, 0, 0, 1, 1, 1, 1, 1]
    said = [record.message for record in caplog.records if "NonMonotonicAveraging" in record.message]
    assert each_names(said, [("NonMonotonicAveraging", "step 16", "epoch 3", "val/loss=2.4", 1)])


def test_a_second_fit_starts_afresh() -> None:
    averaging = NonMonotonicAveraging(1)
    for _ in range(2):
        averaged_fit(seeded(Scripted), averaging)
        assert averaging.steps == 32 - FIRED


class Failing(Scripted):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if self.trainer.current_epoch == 5:
            raise RuntimeError("the validation broke")


def test_raw_weights_come_back_when_the_validation_fails() -> None:
    model, weights = seeded(Failing), Weights()
    with pytest.raises(RuntimeError, match="the validation broke"):
        averaged_fit(model, weights, NonMonotonicAveraging(1))
    assert not torch.equal(model.validated[-1], weights.seen[-1])
    assert torch.equal(flat(model), weights.seen[-1])


class Validated(PlainModel):
    """Knows nothing of this package; without anything random."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm.dropout = self.dropout.p = 0.0

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", float(self.trainer.current_epoch))

    def train_dataloader(self) -> Any:
        return loader()

    val_dataloader = train_dataloader


@pytest.mark.parametrize("regularizer_first", [True, False])
def test_it_works_beside_a_regularizer(regularizer_first: bool, tmp_path: Path) -> None:
    """Whose wrapped ``training_step`` is not copied; and a run that is resumed goes on to the bit."""

    def run(epochs: int, folder: Path, ckpt_path: Any = None) -> tuple[Any, NonMonotonicAveraging, Weights]:
        model, weights, averaging = seeded(Validated), Weights(), NonMonotonicAveraging(1)
        callbacks: list[L.Callback] = [AdversarialDropoutCallback(rate=0.2), averaging]
        callbacks = callbacks if regularizer_first else callbacks[::-1]
        callbacks = [GlobalRandomState(), *callbacks, weights, every_step(folder)]
        averaged_fit(model, *callbacks, max_epochs=epochs, ckpt_path=ckpt_path)
        return model, averaging, weights

    model, averaging, weights = run(5, tmp_path / "whole")
    assert averaging.average is not None
    copy = averaging.average.module
    assert type(copy) is torch.nn.Module
    assert "training_step" not in {*vars(copy), *vars(model)}
    assert averaging.steps == 8  # the third validation fires
    wanted = torch.tensor(mean_of([each.tolist() for each in weights.seen[12:]]))
    torch.testing.assert_close(flat(model), wanted, rtol=0, atol=1e-6)
    run(4, tmp_path / "first")
    resumed, _, _ = run(5, tmp_path / "second", tmp_path / "first" / "step=16.ckpt")
    assert torch.equal(flat(model), flat(resumed))


def test_tied_weights_stay_tied_and_frozen_ones_are_kept() -> None:
    model = seeded(Scripted)
    model.head = torch.nn.Linear(5, 7)
    model.head.weight = model.embedding.weight
    model.norm.weight.requires_grad_(False)
    averaging = NonMonotonicAveraging(from_start=True)
    averaged_fit(model, averaging, max_epochs=1)
    assert averaging.average is not None
    assert len(list(averaging.average.module.parameters())) == len(list(model.parameters()))
    assert model.head.weight is model.embedding.weight

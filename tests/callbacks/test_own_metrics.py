"""Metrics of ours are apart from those that the module logs itself under the same names."""

from __future__ import annotations

import csv
import functools
import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, regularized_loss
from lightning_advdrop.callbacks.own_metrics import own_name
from tests.helpers.messages import each_names
from tests.helpers.plain_models import PlainModel, QuietModel, loader, quiet_trainer, seeded

OURS = {"train/penalty": "advdrop/penalty", "advdrop/weight": "advdrop/advdrop/weight"}
OURS["advdrop/divergence"] = "advdrop/advdrop/divergence"
PLACES = ["before", "after", "on_train_batch_start", "on_train_batch_end", "on_before_optimizer_step", "epoch end"]


class Logs(QuietModel):
    """Logs 7 under some name, at some place and in some steps."""

    delegates = False
    steps = range(100)

    def __init__(self, name: str, place: str, **how: Any) -> None:
        super().__init__()
        self.place = place
        self.what = {"name": name, "value": 7.0, "on_step": False, "on_epoch": True, **how}

    def log_at(self, place: str) -> None:
        if place == self.place and self.trainer.global_step in self.steps:
            self.log(**self.what)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        self.log_at("before")
        x, y = batch
        if self.delegates:
            loss: Tensor = regularized_loss(self, lambda: self(x), lambda p: p.logsumexp(-1).mean(), target=y).total
        else:
            loss = self(x).logsumexp(-1).mean()
        self.log_at("after")
        return loss

    def on_train_batch_start(self, *args: Any) -> None:
        self.log_at("on_train_batch_start")

    def on_train_batch_end(self, *args: Any) -> None:
        self.log_at("on_train_batch_end")

    def on_before_optimizer_step(self, *args: Any) -> None:
        self.log_at("on_before_optimizer_step")

    def on_train_epoch_end(self) -> None:
        self.log_at("epoch end")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self(batch[0])
        self.log_at("validation")


class Delegates(Logs):
    delegates = True
    delegates_regularization = True


class LogsLate(Logs):
    steps = range(2, 3)


class LogsEarly(Logs):
    steps = range(2)


def fitted(model: PlainModel, epochs: int = 1, **trainer: Any) -> dict[str, float]:
    arguments = {"callbacks": [AdversarialDropoutCallback(rate=0.3)], "max_epochs": epochs, "limit_val_batches": 0}
    running = quiet_trainer(**arguments | trainer)
    running.fit(model, loader(), loader())
    assert "log" not in vars(model)
    return {name: float(value) for name, value in running.callback_metrics.items()}


@functools.cache
def plain_metrics() -> dict[str, float]:
    return fitted(seeded(Logs, "other", "after"))


CASES = [(model, place, "train/penalty") for model in (Logs, Delegates, LogsLate, LogsEarly) for place in PLACES[:-1]]
CASES += [(Logs, "epoch end", name) for name in OURS] + [(LogsLate, "before", name) for name in OURS]


@pytest.mark.parametrize(("model", "place", "name"), CASES)
def test_both_values_are_logged(model: type[Logs], place: str, name: str) -> None:
    metrics, plain = fitted(seeded(model, name, place)), plain_metrics()
    assert metrics[name] == 7
    assert metrics[OURS[name]] == plain[name]
    for other in OURS.keys() - {name}:
        assert metrics[other] == plain[other]


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_metric_of_steps_and_epochs_is_apart_from_ours_too(place: str, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    model = seeded(Logs, "advdrop/divergence", place, on_step=True)
    fitted(model, logger=logger, log_every_n_steps=1)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
    assert values["advdrop/divergence_step"] == [7.0] * 4
    assert values["advdrop/divergence_epoch"] == [7.0]
    assert len(values["advdrop/advdrop/divergence_step"]) == 4
    assert 0 < values["advdrop/advdrop/divergence"][0] < 7


def test_what_is_written_to_loggers_by_the_callback_is_apart(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    callbacks = [AdversarialDropoutCallback(rate=0.3, log_every_n_steps=1)]
    model = seeded(Logs, "advdrop/divergence_step", "after", on_step=True, on_epoch=False)
    fitted(model, logger=logger, callbacks=callbacks, log_every_n_steps=1)
    text = Path(logger.log_dir, "metrics.csv").read_text()
    assert "advdrop/advdrop/divergence_step" in text


def test_the_new_name_may_be_taken_as_well() -> None:
    class LogsBoth(Logs):
        def log_at(self, place: str) -> None:
            super().log_at(place)
            if place == "after":
                self.log("advdrop/penalty", 8.0, on_step=False, on_epoch=True)

    metrics = fitted(seeded(LogsBoth, "train/penalty", "after"))
    assert (metrics["train/penalty"], metrics["advdrop/penalty"]) == (7, 8)
    assert metrics["advdrop/advdrop/penalty"] == plain_metrics()["train/penalty"]


def test_two_callbacks_and_the_monitor_in_validation() -> None:
    callbacks = [AdversarialDropoutCallback(rate=0.3), InferenceGapMonitor(rate=0.3)]
    plain = fitted(seeded(Logs, "other", "validation"), callbacks=callbacks, limit_val_batches=1)
    model = seeded(Logs, "gap/random", "validation")
    metrics = fitted(model, callbacks=callbacks, limit_val_batches=1)
    assert metrics["gap/random"] == 7
    assert metrics["advdrop/gap/random"] == plain["gap/random"]
    assert metrics["gap/adversarial"] == plain["gap/adversarial"]
    model = seeded(Logs, "train/penalty", "validation")
    metrics = fitted(model, callbacks=callbacks, limit_val_batches=1, num_sanity_val_steps=0)
    assert metrics["train/penalty"] == 7
    assert metrics["advdrop/penalty"] == plain["train/penalty"]


def test_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fitted(seeded(Logs, "train/penalty", "after"), epochs=2)
    said = [record.message for record in caplog.records if "penalty" in record.message]
    assert each_names(said, [["Logs", "'train/penalty'", "'advdrop/penalty'"]])


def test_without_a_trainer_a_name_is_what_it_should_be() -> None:
    assert own_name(PlainModel(), "train/penalty") == "train/penalty"

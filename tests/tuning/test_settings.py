"""The arguments of a search, and the messages for those that are wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.profilers import PassThroughProfiler

from lightning_advdrop.tuning import Settings, TuneError, find_methods, parse_duration, tune
from tests.helpers.messages import refused
from tests.helpers.tuned import Sequences, Tagger

METHODS = find_methods(["none"], {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("1.5h", 5400), ("45", 45), ("1m5s", 65)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2 days", "h", "30m1h", "-1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with refused("budget", "2h", repr(text)):
        parse_duration(text)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("trials", 0, "at least 1"),
        ("seeds", 1.5, "at least 1"),
        ("jobs", -1, "at least 1"),
        ("budget", 0.0, "above 0"),
        ("seed", -1, "at least 0"),
        ("mode", "minimum", "'min' or 'max'"),
    ],
)
def test_what_is_out_of_range_is_refused(argument: str, value: Any, allowed: str) -> None:
    with refused(argument, allowed, repr(value)):
        Settings(METHODS, **{argument: value})


def test_the_output_is_a_folder() -> None:
    Path("file").touch()
    with refused("output", "folder", "'file'", error=TuneError):
        Settings(METHODS, output=Path("file"))


@pytest.mark.parametrize(
    ("metric", "tested"),
    [("val/loss", "test/loss"), ("val_loss", "val_loss"), ("valid/acc", "test/acc")],
)
def test_the_metric_of_the_test_follows(metric: str, tested: str) -> None:
    assert Settings(METHODS, metric=metric).tested == tested.replace("val_loss", "test_loss")
    assert Settings(METHODS, metric=metric, test_metric="my_loss").tested == "my_loss"


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        ({"mode": "max", "metric": "val/kappa"}, "max"),
        ({"mode": "max", "metric": "val/kappa", "test_metric": "test/kappa"}, "max"),
        ({"test_metric": "test/accuracy"}, "max"),
        ({"mode": "max", "metric": "val/accuracy", "test_metric": "test/error"}, "min"),
        ({"test_metric": "test/kappa", "test_mode": "max"}, "max"),
        ({"test_metric": "test/accuracy", "test_mode": "min"}, "min"),
    ],
)
def test_the_metric_of_the_test_has_a_mode_of_its_own(arguments: dict[str, Any], mode: str) -> None:
    assert Settings(METHODS, **arguments).tested_mode == mode


@pytest.mark.parametrize(
    ("metric", "mode"), [("val/accuracy", "max"), ("val_acc", "max"), ("val/loss", "min"), ("val/brier", "min")]
)
def test_the_name_of_a_metric_tells_its_mode(metric: str, mode: str) -> None:
    assert Settings(METHODS, metric=metric).validated_mode == mode
    assert Settings(METHODS, metric=metric, mode="max").validated_mode == "max"


@pytest.mark.parametrize("name", ["what?now", "a{b}"])
def test_a_path_that_no_database_can_have_is_refused(name: str) -> None:
    with refused("output", "none of ? { }", name, error=TuneError):
        Settings(METHODS, output=Path(name))
    Settings(METHODS, output=Path(name), storage="sqlite:///here.db")


def test_a_mode_that_nothing_tells_must_be_given() -> None:
    with refused("mode", "'min' or 'max'", "'val/kappa'", "None", error=TuneError):
        Settings(METHODS, metric="val/kappa", test_metric="test/loss")
    with refused("test_mode", "'min' or 'max'", "'test/kappa'", "None", error=TuneError):
        Settings(METHODS, test_metric="test/kappa")
    with refused("test_mode", "'min' or 'max'", "'maximum'", error=TuneError):
        Settings(METHODS, test_mode="maximum")  # type: ignore[arg-type]


def test_the_trainer_has_no_logger_and_objects_can_be_pickled() -> None:
    with refused("trainer", "logger", error=TuneError):
        tune(Tagger, methods=["none"], trainer={"logger": True})
    with refused("picklable", "jobs=2", error=TuneError):
        tune(lambda: Tagger(5), methods=["none"], jobs=2)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"methods": "r_drop"}, ("methods", "sequence of names", "'r_drop'")),
        ({"data": [1, 2]}, ("data", "data module", "[1, 2]")),
        ({"trainer": {"fast_dev_run": True, "accelerator": "cpu"}}, ("trainer.fast_dev_run", "off")),
    ],
)
def test_what_no_run_can_take_is_refused(arguments: dict[str, Any], parts: tuple[str, ...]) -> None:
    given: dict[str, Any] = {"data": Sequences, "methods": ["none"], **arguments}
    with refused(*parts, error=TuneError):
        tune(Tagger, **given)


def test_the_seeds_of_the_program_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    torch.manual_seed(99)
    before = torch.get_rng_state()
    tune(Tagger, Sequences, methods=["none"], seeds=1, trainer={"max_epochs": 1, "accelerator": "cpu"})
    assert torch.equal(torch.get_rng_state(), before)
    assert "PL_GLOBAL_SEED" not in os.environ
    assert os.environ["PL_SEED_WORKERS"] == "0"


def test_each_run_has_a_copy_of_the_trainer_s_arguments() -> None:
    class Counting(PassThroughProfiler):
        fits = 0

        def setup(self, *_: Any, **__: Any) -> None:
            self.fits += 1

    profiler = Counting()
    trainer = {"max_epochs": 1, "accelerator": "cpu", "profiler": profiler}
    tune(Tagger, Sequences, methods=["none"], seeds=2, trainer=trainer)
    assert profiler.fits == 0

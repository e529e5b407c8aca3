"""The arguments of a search, and the messages for those that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightning_advdrop.tuning import Settings, TuneError, find_methods, parse_duration, tune
from tests.helpers.messages import refused
from tests.helpers.tuned import Tagger

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
    [("val/loss", "test/loss"), ("val_loss", "val_loss"), ("valid/acc", "test/acc"), ("a/val", "a/test")],
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


def test_a_mode_that_nothing_tells_must_be_given() -> None:
    with refused("test_mode", "'min' or 'max'", "'test/kappa'", "None", error=TuneError):
        Settings(METHODS, test_metric="test/kappa")
    with refused("test_mode", "'min' or 'max'", "'maximum'", error=TuneError):
        Settings(METHODS, test_mode="maximum")  # type: ignore[arg-type]


def test_the_trainer_has_no_logger_and_objects_can_be_pickled() -> None:
    with refused("trainer", "logger", error=TuneError):
        tune(Tagger, methods=["none"], trainer={"logger": True})
    with refused("picklable", "jobs=2", error=TuneError):
        tune(lambda: Tagger(5), methods=["none"], jobs=2)

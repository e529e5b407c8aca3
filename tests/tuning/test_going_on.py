"""Searches that go on: what was tested otherwise, what failed and was mended, and what is of another search."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelSummary, TQDMProgressBar
from torch import Tensor

from lightning_advdrop.tuning import Result, TuneError, tune
from lightning_advdrop.tuning.searching import Objective
from tests.helpers.messages import refused
from tests.helpers.tuned import Sequences, Tagger

TRAINER = {"max_epochs": 1, "accelerator": "cpu", "num_sanity_val_steps": 0}


class Scored(Tagger):
    """Tests as many metrics as are asked for, and fails where it is told to."""

    broken = False
    #: By whether the model is regularized, and by the metric.
    scores: ClassVar[dict[tuple[bool, str], float]] = {}

    def on_test_start(self) -> None:
        if self.broken:
            raise RuntimeError("a bug in the test")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        regularized = any("RDrop" in type(each).__name__ for each in self.trainer.callbacks)  # type: ignore[attr-defined]
        for (of, name), value in self.scores.items():
            if of == regularized:
                self.log(name, value)
        super().test_step(batch, batch_idx)


def small(**more: Any) -> Result:
    arguments: dict[str, Any] = {"methods": ["r_drop", "none"], "trials": 1, "seeds": 2, "trainer": TRAINER}
    return tune(Scored, Sequences, **(arguments | more))


def scored(monkeypatch: pytest.MonkeyPatch, name: str, r_drop: float, none: float) -> None:
    monkeypatch.setattr(Scored, "scores", {(True, name): r_drop, (False, name): none})


def test_results_keep_the_metric_that_they_were_tested_with(monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, "test/accuracy", 0.9, 0.8)
    small()
    with refused("test_metric", "output='tune'", "test/loss", "'test/accuracy'", error=TuneError):
        small(test_metric="test/accuracy")


def test_a_test_metric_that_is_not_logged_can_be_set_right(monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, "test/accuracy", 0.9, 0.8)
    with refused("test_metric", "test/accuracy", "'test/acuracy'", error=TuneError):
        small(test_metric="test/acuracy", test_mode="max")
    assert small(test_metric="test/accuracy").metric == "test/accuracy"


def test_the_best_other_method_is_that_of_the_best_test(monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, "test/accuracy", 0.9, 0.5)
    found = small(methods=["none", "r_drop", "variational_dropout"], test_metric="test/accuracy")
    # Variational dropout has that of plain training.
    assert [row.other for row in found.rows] == ["r_drop", "none", "r_drop"]
    with Path("tune/runs.csv").open(encoding="utf-8") as file:
        assert {line["mode"] for line in csv.DictReader(file) if line["test"]} == {"max"}


def test_a_test_that_fails_always_ends_it_and_the_search_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scored, "broken", True)
    with refused("3 of 3", "RuntimeError: a bug in the test", error=TuneError):
        small()
    monkeypatch.setattr(Scored, "broken", False)
    found = small()
    assert [sorted(row.results) for row in found.rows] == [[1, 2], [1, 2]]
    assert not found.remarks


def test_a_fresh_seed_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_once(self: Scored) -> None:
        if Path("once").exists():
            Path("once").unlink()
            raise RuntimeError("no space left")

    monkeypatch.setattr(Scored, "on_test_start", fails_once)
    Path("once").touch()
    found = small(methods=["none"])
    assert "1 of 2 runs of the seeds failed; the last: RuntimeError: no space left" in found.remarks[0]
    found = small(methods=["none"])
    assert sorted(found.rows[0].results) == [1, 2]
    assert not found.remarks


def test_a_method_of_which_runs_are_missing_is_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Scored) -> None:
        if len(self.trainer.callbacks) == 2 and "seed_2" in str(self.trainer.log_dir):  # type: ignore[attr-defined]
            raise RuntimeError("diverged")

    monkeypatch.setattr(Scored, "validation_step", lambda self, *_: self.log("val/loss", float(len(callbacks(self)))))
    monkeypatch.setattr(Scored, "on_test_start", fails)
    found = small()
    by_name = {row.method: row for row in found.rows}
    assert sorted(by_name["none"].results) == [1]
    assert by_name["none"].validation[1] < by_name["r_drop"].validation[1]
    assert found.best == "r_drop"
    assert "none is not compared for the best method, since runs of it are missing." in found.remarks


def callbacks(module: Scored) -> list[Any]:
    return list(module.trainer.callbacks)  # type: ignore[attr-defined]


def test_seeds_that_not_all_methods_have_do_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def interrupted(self: Objective, *arguments: Any) -> float:
        made.append(self)
        if len(made) == 5:  # one search, then seed 1 of both, and seed 2 of one
            raise KeyboardInterrupt
        return original(self, *arguments)

    original = Objective.__call__
    monkeypatch.setattr(Objective, "__call__", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        small()
    monkeypatch.setattr(Objective, "__call__", original)
    found = small(budget=1e-9)
    assert sorted(len(row.results) for row in found.rows) == [1, 2]
    assert "The best methods are chosen over the seeds that they share: 1." in found.remarks


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_test_that_is_no_number_is_shown_and_does_not_win(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    scored(monkeypatch, "test/perplexity", value, 100.0)
    found = small(test_metric="test/perplexity")
    cells = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in found.table.splitlines()[2:]}
    assert cells == {"r_drop": "nan", "none": "100.00"}
    assert [row.other for row in found.rows] == ["none", None]
    assert small(test_metric="test/perplexity").table == found.table


def test_a_method_is_added_to_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    made: list[str] = []
    original = Objective.__call__

    def noted(self: Objective, trial: Any) -> float:
        made.append(f"{self.method.name}: {self.phase}")
        return original(self, trial)

    monkeypatch.setattr(Objective, "__call__", noted)
    small(methods=["variational_dropout"])
    found = small(methods=["r_drop", "none", "variational_dropout"])
    assert made == ["variational_dropout: search", *["variational_dropout: seeds"] * 2]
    assert [sorted(row.results) for row in found.rows] == [[1, 2]] * 3


def test_an_output_is_of_one_experiment_whatever_the_methods() -> None:
    small(methods=["none"])
    with refused("output='tune'", "another experiment", "max_epochs", 2, error=TuneError):
        small(methods=["r_drop"], trainer=TRAINER | {"max_epochs": 2})
    with refused("storage='sqlite:///tune/tune.db'", "another seed", "'0'", "'5'", error=TuneError):
        small(methods=["r_drop"], seed=5, output="other", storage="sqlite:///tune/tune.db")
    small(methods=["r_drop"])
    with refused("output='tune'", "another method r_drop", "rate", error=TuneError):
        small(methods=["r_drop"], spaces={"r_drop": {"rate": [0.1]}})


def test_a_search_that_was_complete_says_so() -> None:
    small(methods=["none"])
    assert small(methods=["none"]).remarks[0].startswith("No run was made, since all of them were there; the last one")


@pytest.mark.parametrize(
    "given", [None, EarlyStopping("val/loss"), [TQDMProgressBar(), ModelSummary()], lambda: [TQDMProgressBar()]]
)
def test_the_trainer_takes_the_callbacks_that_it_always_does(given: Any) -> None:
    assert small(methods=["none"], trainer=TRAINER | {"callbacks": given}).best == "none"

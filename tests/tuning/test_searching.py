"""Searches of a module that knows nothing of this package: complete, failing, interrupted, in several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from lightning_advdrop.tuning import Settings, TuneError, find_methods, tune
from lightning_advdrop.tuning.searching import Objective
from lightning_advdrop.tuning.store import Store
from tests.helpers.messages import refused
from tests.helpers.small_searches import TRAINER, runs, small
from tests.helpers.tuned import Sequences, Tagger


class Failing(Tagger):
    """Fails in each run with a regularizer of high rate."""

    def on_fit_start(self) -> None:
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if getattr(getattr(callback, "regularizer", None), "rate", 0) > 0.4:
                raise RuntimeError("out of\nmemory")


class Broken(Tagger):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        raise RuntimeError("no such thing")


def test_a_search_ends_with_a_table_a_picture_and_a_configuration() -> None:
    found = small()
    assert [row.method for row in found.rows] == ["r_drop", "none"]
    assert found.metric == "test/loss"
    assert all(sorted(row.results) == [1, 2] for row in found.rows)
    assert found.rows[1].cost == 1
    assert not found.remarks
    r_drop, none = found.rows
    assert r_drop.difference is not None
    expected = sum(r_drop.results.values()) / 2 - sum(none.results.values()) / 2
    assert r_drop.difference.mean == pytest.approx(expected)
    best = yaml.safe_load(Path("tune/best.yaml").read_text())["regularizer"]
    assert (best is None) == (found.best == "none")
    phases = [(run["method"], run["phase"]) for run in runs()]
    assert phases.count(("r_drop", "search")) == 2
    assert phases.count(("none", "search")) == 0
    assert phases.count(("none", "seeds")) == 2


def test_a_finished_search_makes_no_further_run_and_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first = small()
    monkeypatch.setattr(Objective, "__call__", lambda *_: pytest.fail("a run was made"))
    again = small()
    assert (again.rows, again.best, again.table) == (first.rows, first.best, first.table)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = small(output="a"), small(output="b")
    assert [row.values for row in first.rows] == [row.values for row in second.rows]
    assert [row.results for row in first.rows] == [row.results for row in second.rows]


def test_failures_are_recorded_and_left_out() -> None:
    space = {"r_drop": {"rate": [0.1, 0.9]}}
    found = small(Failing, spaces=space, trials=6)
    failed = [run for run in runs() if run["state"] == "fail"]
    assert 0 < len(failed) < 6
    assert {run["error"] for run in failed} == {"RuntimeError: out of memory"}
    assert found.rows[0].values is not None
    assert found.rows[0].values["rate"] == 0.1
    assert "RuntimeError: out of memory" in found.remarks[0]


def test_a_method_whose_runs_all_fail_has_no_result() -> None:
    found = small(Failing, methods=["none", "r_drop"], spaces={"r_drop": {"rate": [0.9]}})
    assert found.rows[1].values is None
    assert not found.rows[1].results
    assert found.best == "none"


def test_what_fails_always_ends_the_search() -> None:
    with refused("must not all fail", "3 of 3", "RuntimeError: no such thing", error=TuneError):
        small(Broken, trials=5)


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"metric": "val/los", "mode": "min"}, ("metric", "val/loss", "'val/los'", "'val/loss'")),
        ({"test_metric": "test/my_loss"}, ("test_metric", "test/loss", "'test/my_loss'")),
        ({"trainer": TRAINER | {"limit_val_batches": 0}}, ("metric", "validation data")),
    ],
)
def test_a_metric_that_is_not_logged_ends_the_search(more: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts, error=TuneError):
        small(**more)


def test_without_a_test_the_validation_is_compared() -> None:
    data = {"train": Sequences().loader(0), "val": Sequences().loader(1)}
    found = tune(Tagger(), data, methods=["none"], seeds=2, trainer=TRAINER)
    assert found.metric == "val/loss"
    assert "validation metric" in found.remarks[0]


def test_an_output_is_of_one_search() -> None:
    small()
    with refused("output", "'tune'", "mode", "min", "max", error=TuneError):
        small(mode="max")


def test_a_time_budget_ends_both_phases_and_the_same_call_goes_on() -> None:
    with refused("fresh seed", "time was up", error=TuneError):
        small(budget=1e-9)
    assert not small().remarks


def test_a_search_that_has_ended_is_not_opened_again() -> None:
    first = small(trials=1)
    found = small(trials=3, seeds=3)
    assert [row.values for row in found.rows] == [row.values for row in first.rows]
    assert "1 of 3 runs of the search were made; the choice is made" in found.remarks[0]
    assert sorted(found.rows[1].results) == [1, 2, 3]


def test_wrong_arguments_can_be_set_right_before_the_first_run_has_ended() -> None:
    with refused("metric", "'val/los'", error=TuneError):
        small(metric="val/los")
    assert small().metric == "test/loss"


def test_an_interrupted_run_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def interrupting(self: Failing) -> None:
        made.append(self)
        if len(made) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Failing, "on_fit_start", interrupting)
    monkeypatch.setattr("lightning_advdrop.tuning.database.GRACE", 1)
    monkeypatch.setattr("lightning_advdrop.tuning.database.HEARTBEAT", 1)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        small(Failing)
    found = small(Failing)
    ended = [run for run in runs() if run["phase"] == "search" and run["state"] in ("complete", "pruned")]
    assert len(ended) == 2
    assert not found.remarks


def test_several_processes_share_the_runs() -> None:
    found = small(jobs=2, trials=3)
    ended = [run for run in runs() if run["state"] in ("complete", "pruned")]
    assert len(ended) == 3 + 2 + 2
    assert all(sorted(row.results) == [1, 2] for row in found.rows)


class Worse(Tagger):
    """Each run is worse than the one before."""

    made = 0

    def on_fit_start(self) -> None:
        type(self).made += 1

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", float(self.made))


def test_a_run_that_falls_behind_is_pruned() -> None:
    small(Worse, trials=7, seeds=1)
    assert [run["state"] for run in runs() if run["phase"] == "search"] == ["complete"] * 5 + ["pruned"] * 2
    small(Worse, trials=7, seeds=1, prune=False, output="whole")
    assert "pruned" not in Path("whole/runs.csv").read_text()


class SlowStart(Tagger):
    """The later runs are worse than the first ones at the beginning, and better at the end."""

    made = 0

    def on_fit_start(self) -> None:
        type(self).made += 1

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        begun = self.current_epoch < 1
        self.log("val/loss", float(self.made if begun else -self.made))


def test_a_run_that_begins_slowly_is_not_pruned() -> None:
    small(SlowStart, trials=7, seeds=1, trainer={"max_epochs": 4, "accelerator": "cpu"})
    assert [run["state"] for run in runs() if run["phase"] == "search"] == ["complete"] * 7


def opened(**more: Any) -> Store:
    return Store(Settings(find_methods(["r_drop", "none"], {}), trials=1, seeds=1, **more), "a")


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used")  # a run that sends none is meant
def test_a_run_that_another_process_made_is_not_made_again() -> None:
    store = opened()
    assert not store.is_surplus(store.settings.methods[0], "search", 0, 0)
    store.studies["r_drop", "search"].ask()
    assert store.is_surplus(store.settings.methods[0], "search", 1, 0)
    assert store.next_method("search") is None
    first = store.studies["none", "seeds"].ask()
    first.set_user_attr("seed", 1)
    assert store.is_surplus(store.settings.methods[1], "seeds", 1, 1)
    assert store.is_surplus(store.settings.methods[1], "seeds", 1, 7)


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used")  # a run that sends none is meant
def test_a_process_that_died_before_its_first_sign_of_life_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    store.studies["r_drop", "search"].ask()
    assert not store.is_idle("search")
    monkeypatch.setattr("lightning_advdrop.tuning.database.GRACE", 0)
    assert store.is_idle("search")
    assert store.next_method("search") is store.settings.methods[0]


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    small(methods=["none"], seeds=1)
    assert torch.get_num_threads() == before

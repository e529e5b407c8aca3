"""A search that is started again after a mistake: in its arguments, in the model, or by Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from torch import Tensor

from lightning_advdrop.tuning import TuneError
from tests.helpers.messages import refused
from tests.helpers.small_searches import TRAINER, runs, small
from tests.helpers.tuned import Tagger


class Accurate(Tagger):
    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("val/accuracy", (self(batch[0]).argmax(-1) == batch[1]).float().mean())


def directions() -> set[str]:
    url = f"sqlite:///{Path('tune/tune.db').absolute()}"
    return {each.direction.name for each in optuna.get_all_study_summaries(url)}


def test_a_mode_that_is_set_right_before_the_first_run_is_that_of_the_search() -> None:
    with refused("metric", "'val/acuracy'", "val/accuracy", error=TuneError):
        small(Accurate, metric="val/acuracy", mode="min")
    small(Accurate, metric="val/accuracy", test_metric="test/loss")
    assert directions() == {"MAXIMIZE"}
    assert {run["metric"]: run["mode"] for run in runs()} == {"val/accuracy": "max", "test/loss": "min"}


def test_a_mode_is_that_of_the_runs_that_are_there() -> None:
    small(Accurate, metric="val/accuracy", test_metric="test/loss")
    with refused("output", "another mode", "'max'", "'min'", error=TuneError):
        small(Accurate, metric="val/accuracy", mode="min", test_metric="test/loss")
    assert directions() == {"MAXIMIZE"}


def test_the_search_of_a_method_whose_runs_all_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Tagger) -> None:
        if any(hasattr(each, "regularizer") for each in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise NameError("my bug")

    with monkeypatch.context() as patched:
        patched.setattr(Tagger, "on_fit_start", broken)
        found = small()
        assert found.rows[0].values is None
        assert any("my bug" in remark for remark in found.remarks)
    found = small()
    assert found.rows[0].values is not None
    assert sorted(found.rows[0].results) == [1, 2]
    assert not found.remarks


def test_a_search_that_was_given_up_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Tagger) -> None:
        raise NameError("my bug")

    with monkeypatch.context() as patched:
        patched.setattr(Tagger, "on_fit_start", broken)
        with refused("3 of 3", "my bug", error=TuneError):
            small(methods=["r_drop"], trials=3)
    assert not small(methods=["r_drop"], trials=3).remarks


def test_ctrl_c_in_the_first_run_leaves_the_output_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupting(_: Tagger) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tagger, "on_train_start", interrupting)
        with pytest.raises(KeyboardInterrupt):
            small(trainer=TRAINER | {"max_epochs": 1000})
    assert not small().remarks


def test_values_that_a_parser_refuses_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of the command, whose parser ends the program."""
    from lightning_advdrop.tuning.api import Objects

    inner = Objects.build

    def build(self: Objects, method: Any, values: dict[str, Any], *more: Any) -> Any:
        if values.get("rate") == 0.5:
            raise SystemExit(2)
        return inner(self, method, values, *more)

    monkeypatch.setattr(Objects, "build", build)
    found = small(spaces={"r_drop": {"rate": [0.1, 0.5]}}, trials=6)
    failed = [run["error"] for run in runs() if run["state"] == "fail"]
    assert 0 < len(failed) < 6
    assert all(error.startswith("ValueError: the values {'rate': 0.5") for error in failed)
    assert found.rows[0].values is not None

"""A report in Weights & Biases, read back from the run that is written offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from tests.helpers.reports import report
from tests.helpers.runs import make_runs, regularizer
from tests.helpers.searches import failed, with_test, write_runs, write_search
from tests.helpers.wandb_files import read_offline_runs

COLUMNS = ["experiment", "method", "seeds", "mean", "deviation", "difference", "p_value", "minutes"]


@pytest.fixture(autouse=True)
def _as_if_the_process_began() -> Iterator[None]:
    wandb.teardown()
    yield
    wandb.teardown()


def test_the_tables_and_figures_are_in_a_run_of_their_own(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [0.9, 0.7])
    make_runs(tmp_path / "digits", [0.95, 0.85], regularizer(), first=2)
    assert report(str(tmp_path / "digits"), "--output", "out", "--wandb", "mine") == 0
    wandb.teardown()
    (found,) = read_offline_runs(Path("out/wandb"))
    assert (found.run.project, found.run.job_type, found.run.display_name) == ("mine", "report", "report digits")
    (row,) = found.history
    assert {*row} >= {"results/test/accuracy", "figures/curves"}
    table = json.loads(next(Path("out/wandb").glob("offline-*/files/media/table/**/*.json")).read_text())
    assert table["columns"] == COLUMNS
    plain, adversarial = table["data"]
    assert plain[:4] == ["digits", "plain", 2, pytest.approx(0.8)]
    assert plain[5:7] == [None, None]
    assert adversarial[:6] == ["digits", "adversarial dropout", 2, *map(pytest.approx, (0.9, 0.0707107, 0.1))]


def test_searches_are_uploaded_with_all_runs_and_the_ranks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_search(tmp_path / "study" / f"{name}.csv", {"none": [0.3, 0.4], "r_drop": [0.2, 0.3]})
    assert report(str(tmp_path / "study"), "--output", "out", "--wandb", "mine") == 0
    wandb.teardown()
    (found,) = read_offline_runs(Path("out/wandb"))
    assert (found.run.job_type, found.run.display_name) == ("report", "report a, b")
    tables = [json.loads(path.read_text()) for path in Path("out/wandb").glob("offline-*/files/media/table/**/*.json")]
    runs, ranks = sorted(tables, key=lambda table: len(table["columns"]))
    assert [row for row in runs["data"] if row[:3] == ["a", "test/error", "r_drop"]] == [
        ["a", "test/error", "r_drop", 1, 0.2],
        ["a", "test/error", "r_drop", 2, 0.3],
    ]
    assert ranks["data"] == [["r_drop", 1.0, 2.0, "none", pytest.approx(-0.1), 2, 0, None]]


def test_all_results_are_uploaded_with_failures_and_seeds_that_others_lack(tmp_path: Path) -> None:
    none = [with_test("none", seed, 0.5) for seed in (1, 2, 3)]
    write_runs(tmp_path / "a.csv", *none, with_test("r_drop", 1, 0.4), failed("r_drop", 2), with_test("x", 1, 0.4))
    assert report(str(tmp_path / "a.csv"), "--output", "out", "--wandb", "mine") == 0
    wandb.teardown()
    tables = [json.loads(path.read_text()) for path in Path("out/wandb").glob("offline-*/files/media/table/**/*.json")]
    runs, ranks = sorted(tables, key=lambda table: len(table["columns"]))
    found = [(method, seed, str(value).lower()) for *_, method, seed, value in runs["data"]]
    of_none = [("none", seed, "0.5") for seed in (1, 2, 3)]
    assert found == [*of_none, ("r_drop", 1, "0.4"), ("r_drop", 2, "nan"), ("x", 1, "0.4")]
    assert [row[:2] for row in ranks["data"]] == [["x", 1.0], ["r_drop", 3.0]]


def test_the_argument_names_the_project_and_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_runs(tmp_path / "digits", [0.9])
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_NAME", "ours")
    assert report(str(tmp_path / "digits"), "--output", "out", "--wandb", "mine") == 0
    wandb.teardown()
    found = read_offline_runs(Path("out/wandb"))[0].run
    assert (found.project, found.display_name) == ("mine", "ours")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ValueError, match="WANDB_MODE is 'online' but Weights & Biases has no key"):
        report(str(tmp_path / "digits"), "--output", "out", "--wandb", "mine")


def test_releases_that_ask_the_server_offline_are_kept_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb.util, "_get_max_cli_version", lambda: pytest.fail("the server was asked"), raising=False)
    make_runs(tmp_path / "digits", [0.9])
    assert report(str(tmp_path / "digits"), "--output", "out", "--wandb", "mine") == 0
    wandb.teardown()
    (found,) = read_offline_runs(Path("out/wandb"))
    (row,) = found.history
    assert "artifact_path" not in row["results/test/accuracy"]

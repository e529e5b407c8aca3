from pathlib import Path

import pytest

from lightning_advdrop.report import PREFERRED, choose_metrics, find_runs, load_run
from lightning_advdrop.report.metrics import direction, is_percentage, listed, validation_metric
from lightning_advdrop.report.runs import Run
from tests.helpers.runs import make_runs


def runs_below(root: Path) -> list[Run]:
    return [load_run(folder) for folder in find_runs([root])]


def test_each_experiment_has_the_first_metric_that_was_logged(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [None, 0.9])
    make_runs(tmp_path / "imdb", [0.2], name="error")
    make_runs(tmp_path / "ptb", [70.0], name="perplexity")
    make_runs(tmp_path / "own", [0.5], name="own")
    make_runs(tmp_path / "untested", [None])
    assert choose_metrics(runs_below(tmp_path)) == {
        "digits": "test/accuracy",
        "imdb": "test/error",
        "own": "test/loss",
        "ptb": "test/perplexity",
    }
    assert choose_metrics(runs_below(tmp_path), ["test/own"]) == {"own": "test/own"}


def test_the_order_of_the_candidates_counts(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [0.9])
    make_runs(tmp_path / "digits", [0.1], first=1, name="error")
    assert choose_metrics(runs_below(tmp_path)) == {"digits": "test/accuracy"}
    assert choose_metrics(runs_below(tmp_path), PREFERRED[::-1]) == {"digits": "test/loss"}


@pytest.mark.parametrize(("metric", "found"), [("test/error", "val/error"), ("val/f1", "val/f1"), ("f1", "val/f1")])
def test_the_curve_is_that_of_the_validation(metric: str, found: str) -> None:
    assert validation_metric(metric) == found


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("error", True), ("test/error_rate", True), ("test/mean_squared_error", False), ("test/perplexity", False)],
)
def test_shares_are_percentages(metric: str, expected: bool) -> None:
    assert is_percentage(metric) is expected


def test_the_direction_is_said_where_lower_is_better() -> None:
    assert direction(["test/accuracy", "test/f1"]) == ""
    assert direction(["test/loss", "test/mean_squared_error"]) == " Lower is better."
    assert direction(["test/accuracy", "val/error_rate"]) == " Lower is better for `val/error_rate`."


def test_words_are_listed() -> None:
    assert [listed("abc"[:count], "and") for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]

"""Methods across searches."""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from lightning_advdrop.report.across import ranks_figure, search_cells, standing_cells
from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.searches import Search, compare, find_searches, read_search, read_searches
from tests.helpers.searches import COLUMNS, write_search

_DASH = "\N{EN DASH}"


def _search(name: str, means: Mapping[str, float], metric: str = "test/error", mode: str = "min") -> Search:
    results = {method: {1: value - 0.01, 2: value + 0.01} for method, value in means.items()}
    return Search(name, metric, mode, results, {})


def test_a_file_is_read(tmp_path: Path) -> None:
    found = read_search(write_search(tmp_path / "task.csv", {"none": [0.3, 0.5], "r_drop": [0.2, 0.2]}))

    assert (found.name, found.metric) == ("task", "test/error")
    assert found.results == {"none": {1: 0.3, 2: 0.5}, "r_drop": {1: 0.2, 2: 0.2}}
    assert found.mean("none") == pytest.approx(0.4)
    assert found.cost == {"none": 1.0, "r_drop": pytest.approx(2.0)}


def test_files_are_found_in_folders(tmp_path: Path) -> None:
    expected = [
        write_search(tmp_path / "b.csv", {"none": [1.0]}),
        write_search(tmp_path / "a" / "runs.csv", {"none": [1.0]}),
    ]
    (tmp_path / "other.csv").write_text("step,loss\n", encoding="utf-8")

    assert sorted(find_searches([tmp_path])) == sorted(expected)
    assert find_searches([expected[0], tmp_path / "other.csv", tmp_path / "missing"]) == [expected[0]]
    assert read_search(expected[1]).name == "a"


def test_a_file_that_is_named_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_search(tmp_path / "a" / "runs.csv", {"none": [1.0]})
    monkeypatch.chdir(tmp_path / "a")

    assert find_searches([Path(), tmp_path, file, tmp_path / "a"]) == [Path("runs.csv")]
    assert read_search(Path("runs.csv")).name == "a"


def test_equal_names_have_that_of_the_folder_in_front_of_them(tmp_path: Path) -> None:
    files = [write_search(tmp_path / name, {"none": [1.0]}) for name in ("x/a.csv", "y/a.csv", "x/b.csv")]
    files += [write_search(tmp_path / name / "tune" / "runs.csv", {"none": [1.0]}) for name in ("x", "y")]

    assert [each.name for each in read_searches(files)[0]] == ["x/a", "y/a", "b", "x/tune", "y/tune"]


def test_the_file_tells_which_values_are_better(tmp_path: Path) -> None:
    path = write_search(tmp_path / "a.csv", {"none": [0.5], "r_drop": [0.6]}, "test/kappa", mode="max")
    assert [row.method for row in compare([read_search(path)], [])] == ["r_drop", "none"]

    old = write_search(tmp_path / "b.csv", {"none": [0.5], "r_drop": [0.6]}, "test/f1")
    assert read_search(old).mode == "max"
    write_search(old, {"none": [0.5]}, "test/kappa")
    with pytest.raises(RunError, match="must have a column mode with min or max, since 'test/kappa' doesn't tell it"):
        read_search(old)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method,phase\n", r"must have the columns method, phase, seed, values, .*, got none called seed, values, "),
        (",".join(COLUMNS) + "\n", "has no run with a fresh seed that ended"),
        (",".join(COLUMNS) + "\nnone,seeds,1,one,{},test/error,0.1,0.1\n", "invalid literal for int"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "task.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        read_search(path)


def test_ranks_are_means_over_the_searches_and_ties_share_theirs() -> None:
    searches = [_search("a", {"x": 0.1, "y": 0.2, "z": 0.2}), _search("b", {"x": 0.3, "y": 0.1, "z": 0.2})]

    found = {row.method: row.rank for row in compare(searches, [])}

    assert found == {"x": 2.0, "y": (2.5 + 1) / 2, "z": (2.5 + 2) / 2}
    assert [row.method for row in compare(searches, [])] == ["y", "x", "z"]


def test_higher_values_of_an_accuracy_are_better() -> None:
    (first, second) = compare([_search("a", {"x": 0.8, "y": 0.9}, "test/accuracy", "max")], ["x"])

    assert (first.method, first.rank, second.rank) == ("y", 1.0, 2.0)
    assert (first.against["x"].better, first.against["x"].worse) == (1, 0)
    assert first.against["x"].difference == pytest.approx(0.1)
    assert second.against == {}


def test_the_signed_rank_test_is_that_of_the_exact_distribution() -> None:
    gains = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    searches = [_search(str(gain), {"none": 1.0, "ours": 1.0 - gain}) for gain in gains]

    (ours, _) = compare(searches, ["none"])

    # All six differences have one sign: 2 of the 2 ** 6 signs are as extreme.
    assert ours.against["none"].p_value == pytest.approx(2 / 2**6)
    assert (ours.against["none"].better, ours.against["none"].worse) == (6, 0)
    assert compare(searches[:4], ["none"])[0].against["none"].p_value is None


def test_the_signed_rank_test_knows_which_values_are_better() -> None:
    gains = (0.1, 0.2, 0.3)
    lower = [_search(f"l{gain}", {"none": 1.0, "ours": 1.0 - gain}) for gain in gains]
    higher = [_search(f"h{gain}", {"none": 0.5, "ours": 0.5 + gain}, "test/accuracy", "max") for gain in gains]

    (ours, _) = compare([*lower, *higher], ["none"])

    found = ours.against["none"]
    assert (found.better, found.worse) == (6, 0)
    assert found.p_value == pytest.approx(2 / 2**6)


def test_equal_means_tie_whatever_their_last_digits() -> None:
    near = {"x": {1: float(np.float32(0.9)), 2: float(np.float32(0.92))}, "y": {1: 0.91, 2: 0.91}}
    found = compare([Search(name, "test/error", "min", near, {}) for name in "abcdef"], ["y"])

    assert [row.rank for row in found] == [1.5, 1.5]
    against = found[0].against["y"]
    assert (against.better, against.worse, against.p_value) == (0, 0, None)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_has_diverged_is_the_worst(mode: str, value: float) -> None:
    broken = {"x": {1: 0.1, 2: value}, "y": {1: 0.5, 2: 0.6}, "z": {1: 0.1, 2: 0.2}}
    searches = [Search(name, "test/kappa", mode, broken, {}) for name in "abcdef"]

    found = compare(searches, ["y"])

    assert found[-1].method == "x"
    assert (found[-1].rank, found[-1].against["y"].worse) == (3.0, 6)
    assert found[-1].against["y"].p_value == pytest.approx(2 / 2**6)
    assert search_cells(searches, ["x", "y"])[1][2:] == ["nan (nan)", "0.5500 (0.07071)"]


def test_differences_of_different_metrics_are_not_averaged() -> None:
    searches = [_search("a", {"x": 0.1, "y": 0.2}), _search("b", {"x": 3.0, "y": 2.0}, "test/loss")]
    assert compare(searches, ["x"])[1].against["x"].difference is None


def test_methods_that_not_all_have_are_left_out() -> None:
    searches = [_search("a", {"x": 0.1, "y": 0.2}), _search("b", {"x": 0.3})]
    assert [row.method for row in compare(searches, ["x"])] == ["x"]
    with pytest.raises(ReportError, match="baseline must be a method of all searches, x; got 'y'"):
        compare(searches, ["y"])
    with pytest.raises(ReportError, match="searches must have a method in common, got a, c"):
        compare([searches[0], _search("c", {"z": 1.0})], [])


def test_the_tables_have_a_line_for_each_method_and_for_each_search() -> None:
    searches = [_search("a", {"x": 0.1, "y": 0.2}), _search("b", {"x": 0.3, "y": 0.4})]
    standings = compare(searches, ["y"])

    assert standing_cells(standings, "test/error") == [
        ["method", "cost", "mean rank", "vs. y (points)", "better, worse", "p"],
        ["x", _DASH, "1.0", "-10.00", "2, 0", _DASH],
        ["y", _DASH, "2.0", _DASH, _DASH, _DASH],
    ]
    assert search_cells(searches, ["x", "y"]) == [
        ["search", "seeds", "x", "y"],
        ["a", "2", "10.00 (1.41)", "20.00 (1.41)"],
        ["b", "2", "30.00 (1.41)", "40.00 (1.41)"],
    ]


def test_the_picture_has_a_dot_for_each_search_and_a_bar_at_the_mean() -> None:
    searches = [_search("a", {"x": 0.1, "y": 0.2}), _search("b", {"x": 0.4, "y": 0.3})]
    (axes,) = ranks_figure(searches, compare(searches, [])).axes
    drawn = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert drawn == [[1.0, 2.0], [1.5], [2.0, 1.0], [1.5]]


def test_the_picture_ranks_the_methods_that_all_searches_have() -> None:
    searches = [_search("a", {"none": 0.4, "r_drop": 0.2, "other": 0.3}), _search("b", {"none": 0.3, "r_drop": 0.5})]
    (axes,) = ranks_figure(searches, compare(searches, [])).axes
    # Of three methods in the first search plain training would be the third.
    drawn = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert drawn == [[2.0, 1.0], [1.5], [1.0, 2.0], [1.5]]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_search(tmp_path / "a.csv", {"none": [0.5]})
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())

    assert find_searches([tmp_path]) == [path]
    assert read_search(path).results == {"none": {1: 0.5}}

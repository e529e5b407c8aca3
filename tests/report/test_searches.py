"""The runs of searches, read from files."""

from __future__ import annotations

import codecs
import math
from pathlib import Path

import pytest

from lightning_advdrop.report.errors import RunError
from lightning_advdrop.report.searches import find_searches, read_search, read_searches
from lightning_advdrop.report.standings import compare
from tests.helpers.searches import COLUMNS, failed, with_test, without_test, write_runs, write_search


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
    with pytest.raises(RunError, match=r"mode must be min or max, .* where 'test/kappa' doesn't tell it; got ''"):
        read_search(old)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("method,phase\n", r"must have the columns method, phase, seed, values, .*, got none called seed, values, "),
        (",".join(COLUMNS) + "\n", "has no run with a fresh seed that ended"),
        (
            ",".join(COLUMNS) + "\nnone,seeds,1,one,{},test/error,0.1,0.1\n",
            "seed must be a whole number, got 'one' in line 2",
        ),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "task.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        read_search(path)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_search(tmp_path / "a.csv", {"none": [0.5]})
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())

    assert find_searches([tmp_path]) == [path]
    assert read_search(path).results == {"none": {1: 0.5}}


def test_a_run_that_failed_has_no_number(tmp_path: Path) -> None:
    runs = [
        with_test("none", 1, 0.5),
        failed("r_drop", 1),
        with_test("r_drop", 2, 0.4),
        failed("other", 2),
        failed("x", 1, ""),
    ]
    found = read_search(write_runs(tmp_path / "a.csv", *runs)).results

    assert found == {
        "none": {1: 0.5},
        "r_drop": {1: pytest.approx(math.nan, nan_ok=True), 2: 0.4},
        "other": {2: pytest.approx(math.nan, nan_ok=True)},
    }


@pytest.mark.parametrize("again", [slice(None), slice(None, None, -1)])
def test_a_run_that_was_made_again_has_its_result(tmp_path: Path, again: slice) -> None:
    runs = [failed("none", 1), with_test("none", 1, 0.5)][again]
    found = read_search(write_runs(tmp_path / "a.csv", *runs))

    assert found.results == {"none": {1: 0.5}}
    assert found.cost == {"none": 1.0}


def test_only_failures_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^has no run with a fresh seed that ended; run `advdrop tune` again to go on$"):
        read_search(write_runs(tmp_path / "a.csv", failed("none", 1)))


def test_the_validation_counts_where_not_all_were_tested(tmp_path: Path) -> None:
    runs = [without_test("none", 1, 0.5), with_test("r_drop", 1, 0.4, 0.6), failed("r_drop", 2)]
    found = read_search(write_runs(tmp_path / "a.csv", *runs))

    assert (found.metric, found.mode) == ("val/loss", "min")
    assert found.results == {"none": {1: 0.5}, "r_drop": {1: 0.6, 2: pytest.approx(math.nan, nan_ok=True)}}
    assert found.remarks == ["not all runs were tested, so that the results are those of the validation, val/loss"]
    # A failure has the name of the validation metric, whatever the others have.
    found = read_search(write_runs(tmp_path / "a.csv", with_test("none", 1, 0.4, 0.6), failed("none", 2)))
    assert (found.metric, found.results["none"][1], found.remarks) == ("test/loss", 0.4, [])


@pytest.mark.parametrize(
    "other",
    [with_test("r_drop", 1, 0.4), {**with_test("r_drop", 1, 0.4, 0.6), "metric": "test/f1"}, {"metric": "val/f1"}],
)
def test_several_metrics_are_refused(tmp_path: Path, other: dict[str, object]) -> None:
    first = without_test("none", 1, 0.5) if other["metric"] != "test/f1" else with_test("none", 1, 0.5, 0.5)
    other = {**without_test("r_drop", 1, 0.5), **other}
    told = f"got {', '.join(sorted([str(first['metric']), str(other['metric'])]))}"

    with pytest.raises(RunError, match=f"^metric must be the same in all runs with fresh seeds, or .*, {told}; run "):
        read_search(write_runs(tmp_path / "a.csv", first, other))


def test_both_modes_of_one_metric_are_refused(tmp_path: Path) -> None:
    runs = [
        with_test("none", 1, 0.5),
        {**with_test("none", 2, 0.5), "mode": "max"},
        {**with_test("none", 3, 0.5), "mode": ""},
    ]
    with pytest.raises(RunError, match=r"mode must be min or max, the same in all runs, .*; got 'max', 'min'; run "):
        read_search(write_runs(tmp_path / "a.csv", *runs))
    assert read_search(write_runs(tmp_path / "a.csv", *runs[::2])).mode == "min"


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("seed", "", "a whole number"),
        ("seed", "1.0", "a whole number"),
        ("result", "0,5", "a number"),
        ("validation", "x", "a number"),
        ("step_seconds", "x", "a number"),
    ],
)
def test_a_wrong_number_is_told_with_its_file_and_line(tmp_path: Path, column: str, value: str, allowed: str) -> None:
    path = write_runs(tmp_path / "a.csv", with_test("none", 1, 0.5), {**with_test("none", 2, 0.5), column: value})
    assert read_searches([path]) == ([], [f"{path}: {column} must be {allowed}, got {value!r} in line 3"])

"""Methods across searches."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from lightning_advdrop.report.across import search_cells
from lightning_advdrop.report.errors import ReportError
from lightning_advdrop.report.searches import Search
from lightning_advdrop.report.standings import comparable, compare, seed_remarks


def _search(name: str, means: Mapping[str, float], metric: str = "test/error", mode: str = "min") -> Search:
    results = {method: {1: value - 0.01, 2: value + 0.01} for method, value in means.items()}
    return Search(name, metric, mode, results, {})


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


def test_who_failed_takes_no_seeds_from_the_others_and_is_the_worst() -> None:
    results = {"none": {1: 1.0, 2: 5.0, 3: 1.0}, "r_drop": {2: math.nan, 1: 1.0}, "other": {1: 2.0, 2: 6.0, 3: 2.0}}
    search = Search("a", "test/loss", "min", results, {})

    (compared,) = comparable([search])
    found = compare([search], ["none"])

    assert compared.results == {**results, "r_drop": {2: pytest.approx(math.nan, nan_ok=True), 1: 1.0}}
    assert [(row.method, row.rank) for row in found] == [("none", 1.0), ("other", 2.0), ("r_drop", 3.0)]
    assert found[1].against["none"].difference == pytest.approx(1.0)
    assert math.isnan(found[2].against["none"].difference or 0.0)
    assert seed_remarks(search, compared) == ["a: r_drop is the worst, since it has no finite result with seed 2"]


def test_means_are_over_the_seeds_that_the_methods_share() -> None:
    results = {"none": {1: 1.0, 2: 1.0, 3: 1.0, 4: 9.0}, "r_drop": {3: 2.0, 2: 2.0, 1: 2.0}, "gone": {9: 0.0}}
    search = Search("a", "test/loss", "min", results, {})
    whole = Search("b", "test/loss", "min", {name: {1: results[name][1]} for name in ("none", "r_drop")}, {})

    compared = comparable([search, whole])
    found = compare([search, whole], ["none"])

    shared = {"none": {1: 1.0, 2: 1.0, 3: 1.0}, "r_drop": {1: 2.0, 2: 2.0, 3: 2.0}}
    assert [each.results for each in compared] == [shared, whole.results]
    assert comparable(compared) == compared
    assert [(row.method, row.rank) for row in found] == [("none", 1.0), ("r_drop", 2.0)]
    assert found[1].against["none"].difference == pytest.approx(1.0)
    assert seed_remarks(search, compared[0]) == ["a: the means are over the seeds that the methods share: 1, 2 and 3"]
    assert seed_remarks(whole, compared[1]) == []


def test_methods_without_a_common_seed_are_refused() -> None:
    search = Search("a", "test/loss", "min", {"none": {1: 1.0, 2: 1.0}, "r_drop": {3: 1.0}}, {})
    with pytest.raises(
        ReportError, match=r"must share a seed to be compared, got none in a: none with 1, 2; r_drop with 3\."
    ):
        compare([search], [])


def test_where_all_have_failed_they_tie() -> None:
    search = Search("a", "test/loss", "min", {"none": {1: math.nan}, "r_drop": {2: math.inf}}, {})
    assert [row.rank for row in compare([search], [])] == [1.5, 1.5]

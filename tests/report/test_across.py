"""The tables and the picture of methods across searches."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lightning_advdrop.report.across import ranks_figure, search_cells, standing_cells
from lightning_advdrop.report.searches import Search
from lightning_advdrop.report.standings import compare

_DASH = "\N{EN DASH}"


def _search(name: str, means: Mapping[str, float], metric: str = "test/error", mode: str = "min") -> Search:
    results = {method: {1: value - 0.01, 2: value + 0.01} for method, value in means.items()}
    return Search(name, metric, mode, results, {})


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


def test_who_failed_is_drawn_as_the_last() -> None:
    search = Search("a", "test/loss", "min", {"none": {1: 5.0, 2: 5.0}, "r_drop": {1: 1.0, 2: math.nan}}, {})
    (axes,) = ranks_figure([search], compare([search], [])).axes
    assert [np.asarray(line.get_xdata()).tolist() for line in axes.lines] == [[1.0], [1.0], [2.0], [2.0]]

"""Intervals against scipy, and the rows, table and picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import wandb
from scipy.stats import t, ttest_rel

from lightning_advdrop.tuning import Result, Row, confidence_interval, paired_difference
from lightning_advdrop.tuning.pages import table_cells, upload_result, write_pages
from tests.helpers.wandb_files import read_offline_runs


@pytest.mark.parametrize("count", [2, 3, 5, 20])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_that_of_scipy(count: int, level: float) -> None:
    generator = np.random.default_rng(count)
    ours, theirs = generator.normal(size=(2, count))
    found = confidence_interval(list(ours), level)
    low, high = t.interval(level, count - 1, ours.mean(), ours.std(ddof=1) / count**0.5)
    assert (found.mean, found.low, found.high) == pytest.approx((ours.mean(), low, high))
    wanted = ttest_rel(ours, theirs).confidence_interval(0.95)
    paired = paired_difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert paired is not None
    assert (paired.low, paired.high) == pytest.approx((wanted.low, wanted.high))


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).normal(size=(2000, 4))
    found = [confidence_interval(list(sample)) for sample in samples]
    share = np.mean([each.low is not None and each.high is not None and each.low <= 0 <= each.high for each in found])
    # Four standard deviations of a share of 2,000.
    assert share == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 2000) ** 0.5)


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = confidence_interval([2.0, 2.0, 2.0])
    assert (found.low, found.mean, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_without_a_finite_mean_there_is_no_interval(value: float) -> None:
    found = confidence_interval([1.0, value, 2.0])
    assert math.isnan(found.mean)
    assert (found.low, found.high) == (None, None)


def test_only_seeds_of_both_are_compared() -> None:
    found = paired_difference({1: 1.0, 2: 2.0, 3: 9.0}, {1: 0.5, 2: 1.5, 4: 0.0})
    assert found is not None
    assert (found.low, found.mean, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert paired_difference({1: 1.0}, {2: 1.0}) is None


def test_the_table_and_the_picture_are_written(tmp_path: Path) -> None:
    difference = confidence_interval([0.01, 0.03])
    rows = [
        Row("r_drop", {"rate": 0.12345, "both": True}, {1: 0.9, 2: 0.92}, {1: 0.9, 2: 0.9}, difference, "none", 1.5),
        Row("none", {}, {1: 0.89, 2: 0.89}, {1: 0.9, 2: 0.9}),
        Row("broken", None, {}, {}),
    ]
    found = Result("test/accuracy", rows, "r_drop", ["a remark"], tmp_path)
    heading, first, second, third = table_cells(found)
    assert heading[3] == "mean test/accuracy (%)"
    assert first == [
        "r_drop",
        "rate 0.123, both true",
        "2",
        "91.00",
        "1.41",
        "+2.00",
        "-10.71 to +14.71",
        "none",
        "1.50",
    ]
    assert second[5:] == ["\N{EN DASH}"] * 4
    assert third[1:4] == ["\N{EN DASH}", "0", "\N{EN DASH}"]
    assert write_pages(found).table.startswith("| method")
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")
    assert "a remark" in (tmp_path / "tune.html").read_text()


def test_what_has_diverged_is_written_as_such(tmp_path: Path) -> None:
    found = Result("test/perplexity", [Row("none", {}, {1: 90.0, 2: math.inf}, {1: 4.5, 2: 4.6})], "none", [], tmp_path)
    assert table_cells(found)[1][3:7] == ["nan", "nan", "\N{EN DASH}", "\N{EN DASH}"]
    assert "nan" in write_pages(found).table


def test_the_results_are_uploaded(tmp_path: Path) -> None:
    row = Row("r_drop", {"rate": 0.1}, {1: 0.9, 2: 0.92}, {1: 0.9, 2: 0.9}, confidence_interval([0.01, 0.03]), "x", 1.5)
    found = write_pages(Result("test/accuracy", [row, Row("broken", None, {}, {})], "r_drop", [], tmp_path))
    wandb.teardown()
    upload_result("mine", found)
    wandb.teardown()
    (uploaded,) = read_offline_runs(tmp_path / "wandb")
    assert (uploaded.run.project, uploaded.run.job_type) == ("mine", "tune")
    assert {*uploaded.history[0]} >= {"results/test/accuracy", "figures/methods"}
    table = json.loads(next((tmp_path / "wandb").glob("offline-*/files/media/table/**/*.json")).read_text())
    first, second = table["data"]
    assert first[:4] == ["r_drop", '{"rate": 0.1}', 2, pytest.approx(0.91)]
    assert first[5] == pytest.approx(0.02)
    assert first[8:] == ["x", 1.5]
    assert second == ["broken", "null", 0, *[None] * 7]

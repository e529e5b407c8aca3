import math
import re
from pathlib import Path

import pytest

from lightning_advdrop.report import Row, RunError, find_runs, format_table, group_runs, load_run, summarize
from lightning_advdrop.report.tables import number_cell
from tests.helpers.messages import refused
from tests.helpers.runs import make_run, make_runs, regularizer


def rows_below(root: Path, metric: str = "test/accuracy", baseline: str = "plain") -> list[Row]:
    return summarize(group_runs([load_run(folder) for folder in find_runs([root])], baseline)[0], metric, baseline)


def test_numbers_are_those_computed_by_hand(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [0.80, 0.82, 0.84], minutes=2)
    make_runs(tmp_path / "digits", [0.82, 0.86, 0.90], regularizer(), first=3, minutes=5)
    plain, adversarial = rows_below(tmp_path)
    assert (plain.method, plain.seeds, plain.difference, plain.p_value) == ("plain", 3, None, None)
    assert plain.mean == pytest.approx(0.82)
    assert plain.deviation == pytest.approx(0.02)
    assert plain.minutes == pytest.approx(2)
    assert adversarial.mean == pytest.approx(0.86)
    assert adversarial.deviation == pytest.approx(0.04)
    assert adversarial.difference == pytest.approx(0.04)
    assert adversarial.minutes == pytest.approx(5)
    # Differences 0.02, 0.04, 0.06: t = 0.04 / (0.02 / sqrt(3)) = 2 sqrt(3). With two degrees of freedom Student's
    # distribution is elementary: the two-sided p is 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14).
    assert adversarial.p_value == pytest.approx(1 - math.sqrt(6 / 7))


def test_only_common_seeds_are_paired_and_all_count_for_the_mean(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [0.5, 0.6, 0.1])
    for version, (seed, test) in enumerate([(1, 0.8), (0, 0.6), (9, 0.7), (None, 0.7)]):
        make_run(tmp_path / "digits" / f"version_{10 + version}", seed, regularizer(), test=test)
    _, adversarial = rows_below(tmp_path)
    assert adversarial.mean == pytest.approx(0.7)
    assert adversarial.difference == pytest.approx(0.7 - 0.4)
    # Differences 0.1 and 0.2: t = 0.15 / (0.0707 / sqrt(2)) = 3; with one degree of freedom p = 1 - 2 atan(3) / pi.
    assert adversarial.p_value == pytest.approx(1 - 2 * math.atan(3) / math.pi)


@pytest.mark.parametrize(
    ("plain", "other"),
    [([0.1], [0.2]), ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]), ([0.5, 0.5], [0.5, 0.5]), ([0.1, math.nan], [0.2, 0.4])],
    ids=["one common seed", "equal differences", "no differences", "not finite"],
)
def test_there_is_no_p_value_where_there_is_no_test(tmp_path: Path, plain: list[float], other: list[float]) -> None:
    make_runs(tmp_path / "digits", plain)
    make_runs(tmp_path / "digits", other, regularizer(), first=5)
    assert rows_below(tmp_path)[1].p_value is None


def test_one_run_has_no_deviation_and_a_missing_baseline_no_difference(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [0.5], regularizer(), minutes=0)
    make_runs(tmp_path / "mnist", [0.5])
    assert rows_below(tmp_path)[0] == Row("digits", "adversarial dropout", 1, 0.5, None, None, None, None)


def test_each_experiment_has_its_own_baseline(tmp_path: Path) -> None:
    for experiment, plain in (("digits", 0.5), ("mnist", 0.25)):
        make_runs(tmp_path / experiment, [plain])
        make_runs(tmp_path / experiment, [0.75], regularizer(), first=1)
    assert [row.difference for row in rows_below(tmp_path)] == [None, 0.25, None, 0.5]
    assert [row.difference for row in rows_below(tmp_path, baseline="adversarial dropout")] == [None, -0.25, None, -0.5]


def test_a_run_that_diverged_leaves_no_mean(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [0.5, math.inf, 0.6])
    (row,) = rows_below(tmp_path)
    assert row.seeds == 3
    assert math.isnan(row.mean)
    assert row.deviation is not None
    assert math.isnan(row.deviation)
    # Experiment, method, seeds, mean, deviation.
    assert format_table([row], "x").splitlines()[2].split()[1:10:2] == ["digits", "plain", "3", "nan", "nan"]


def test_a_run_without_the_metric_is_refused(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [None])
    with refused("metrics.csv", "'test/accuracy'", error=RunError):
        rows_below(tmp_path)


ROWS = [
    Row("digits", "plain", 3, 0.12345, 0.0, None, None, 12.34),
    Row("a|b", "adversarial dropout", 1, 0.9, None, -0.00126, 0.0004, 0.256),
    Row("digits", "r drop", 2, 1.0, 0.1, 0.1, 0.04567, None),
]


def test_the_table_of_an_accuracy() -> None:
    table = format_table(ROWS, "test/accuracy")
    assert len({len(line) for line in table.splitlines()}) == 1
    # One space is enough to compare cells; a tilde is told from a hyphen more easily than a dash.
    lines = re.sub(r" +", " ", table.replace("\N{EN DASH}", "~")).splitlines()
    assert lines[0].endswith("| seeds | mean test/accuracy (%) | std (%) | vs. plain (points) | p | minutes |")
    assert lines[2:] == [
        "| digits | plain | 3 | 12.35 | 0.00 | ~ | ~ | 12.3 |",
        "| a\\|b | adversarial dropout | 1 | 90.00 | ~ | -0.13 | < 0.001 | 0.26 |",
        "| digits | r drop | 2 | 100.00 | 10.00 | +10.00 | 0.046 | ~ |",
    ]


@pytest.mark.parametrize("metric", ["val/error_rate", "test/error", "test/macro_f1", "accuracy"])
def test_rates_are_in_per_cent(metric: str) -> None:
    assert f"| mean {metric} (%) |" in format_table(ROWS, metric)


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456, "0.1235"), (1.5, "1.500"), (112.345, "112.3"), (1234.4, "1234"), (math.nan, "nan")]
)
def test_other_metrics_have_four_digits(value: float, text: str) -> None:
    table = format_table([Row("ptb", "plain", 1, value, None, None, None, None)], "test/loss")
    assert [cell.strip() for cell in table.splitlines()[2].split("|")][4] == text
    assert [cell.strip() for cell in table.splitlines()[0].split("|")][1:-1] == [
        *("experiment", "method", "seeds", "mean test/loss", "std", "vs. plain", "p"),
    ]


def test_perplexities_have_two_decimals_and_no_unit() -> None:
    rows = [Row("ptb", "r drop", 2, 112.345, 0.0345, -1.5, 0.04, None)]
    heading, _, line = format_table(rows, "test/perplexity").splitlines()
    assert [cell.strip() for cell in heading.split("|")][4:7] == ["mean test/perplexity", "std", "vs. plain"]
    assert [cell.strip() for cell in line.split("|")][4:7] == ["112.34", "0.03", "-1.50"]


@pytest.mark.parametrize(("metric", "value"), [("test/error", -1e-5), ("test/perplexity", -1e-3)])
def test_what_rounds_to_zero_has_no_minus(metric: str, value: float) -> None:
    assert number_cell(value, metric, "+") == "+0.00"

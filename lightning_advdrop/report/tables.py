"""Compute and lay out the table of a report."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_advdrop._extras import needed
from lightning_advdrop.report.groups import PLAIN, Group
from lightning_advdrop.report.metrics import is_percentage
from lightning_advdrop.report.samples import deviation, mean

TEXT_COLUMNS = 2
_NOTHING = "\N{EN DASH}"
# Differences that vary by less than this part of the values differ by rounding only.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Row:
    """A method in an experiment, as a row of the table; values are as logged, not in per cent.

    Args:
        experiment: Name of the experiment.
        method: Name of the method.
        seeds: Number of runs.
        mean: Mean over the runs of the last value of the metric; ``nan`` if a run diverged.
        deviation: Sample standard deviation over the runs; ``None`` with one run.
        difference: ``mean`` minus that of the baseline; ``None`` for the baseline itself or without one.
        p_value: Of a paired, two-sided t-test against the baseline over the seeds that both have; ``None`` with fewer
            than two of them, or if the differences do not vary.
        minutes: Mean duration of the runs whose duration is known; ``None`` if there is none.
    """

    experiment: str
    method: str
    seeds: int
    mean: float
    deviation: float | None
    difference: float | None
    p_value: float | None
    minutes: float | None


def summarize(groups: Sequence[Group], metric: str, baseline: str = PLAIN) -> list[Row]:
    """Compute the rows of the table.

    Args:
        groups: Runs by experiment and method.
        metric: Name of the metric that is compared, e.g. ``"test/accuracy"``.
        baseline: Name of the method to compare with, in each experiment that has it.

    Returns:
        A row for each group, in their order.

    Raises:
        RunError: If a run did not log the metric.

    Example:
        >>> summarize([], "test/accuracy")
        []
    """
    baselines = {group.experiment: group for group in groups if group.method == baseline}
    return [_row(group, baselines.get(group.experiment), metric) for group in groups]


def _row(group: Group, baseline: Group | None, metric: str) -> Row:
    values = _last_values(group, metric)
    other = None if baseline is group else baseline
    minutes = [run.minutes for run in group.runs if run.minutes is not None]
    return Row(
        experiment=group.experiment,
        method=group.method,
        seeds=len(values),
        mean=mean(values),
        deviation=deviation(values),
        difference=mean(values) - mean(_last_values(other, metric)) if other else None,
        p_value=_p_value(group, other, metric) if other else None,
        minutes=mean(minutes) if minutes else None,
    )


def _last_values(group: Group, metric: str) -> list[float]:
    return [run.series(metric).last for run in group.runs]


def _p_value(group: Group, baseline: Group, metric: str) -> float | None:
    ours = {run.seed: run.series(metric).last for run in group.runs if run.seed is not None}
    theirs = {run.seed: run.series(metric).last for run in baseline.runs if run.seed is not None}
    common = sorted(ours.keys() & theirs.keys())
    pairs = np.array([(ours[seed], theirs[seed]) for seed in common])  # (N, 2)
    if len(common) < 2 or not np.isfinite(pairs).all():
        return None
    if np.ptp(pairs[:, 0] - pairs[:, 1]) <= _ROUNDING * np.abs(pairs).max():
        return None
    # Imported here: scipy takes a second, which the other commands need not wait for.
    with needed("The test of a report's differences"):
        from scipy.stats import ttest_rel

    return float(ttest_rel(pairs[:, 0], pairs[:, 1]).pvalue)


def format_table(rows: Sequence[Row], metric: str, baseline: str = PLAIN) -> str:
    """Lay rows out as a table in Markdown, aligned for a terminal, too.

    Args:
        rows: The rows to show.
        metric: Name of the metric: accuracies, errors of classification and F1 are shown in per cent with two decimals,
            perplexities as numbers with two decimals, others with four significant digits.
        baseline: Name of the baseline, for the heading.

    Returns:
        The table: a heading, a rule and a line for each row, without a line break at its end. The column for the
        duration is left out if no duration is known.

    Example:
        >>> print(format_table([Row("digits", "r drop", 2, 0.9, 0.01, 0.023, 0.0412, None)], "test/accuracy"))
        | experiment | method | seeds | mean test/accuracy (%) | std (%) | vs. plain (points) |     p |
        | :--------- | :----- | ----: | ---------------------: | ------: | -----------------: | ----: |
        | digits     | r drop |     2 |                  90.00 |    1.00 |              +2.30 | 0.041 |
    """
    return aligned(table_cells(rows, metric, baseline))


def table_cells(rows: Sequence[Row], metric: str, baseline: str = PLAIN) -> list[list[str]]:
    """Format the cells of the table, line by line from the heading on, as `format_table` does.

    The first `TEXT_COLUMNS` columns hold texts, the others numbers.
    """
    # A difference of percentages is none: from 50 % to 55 % are 5 points, and 10 %.
    unit, points = (" (%)", " (points)") if is_percentage(metric) else ("", "")
    headings = ["experiment", "method", "seeds", f"mean {metric}{unit}", f"std{unit}", f"vs. {baseline}{points}", "p"]
    timed = any(row.minutes is not None for row in rows)
    lines = [headings + ["minutes"] * timed]
    return lines + [_cells(row, metric) + [_minutes(row.minutes)] * timed for row in rows]


def _cells(row: Row, metric: str) -> list[str]:
    return [
        row.experiment,
        row.method,
        str(row.seeds),
        number_cell(row.mean, metric),
        number_cell(row.deviation, metric),
        number_cell(row.difference, metric, sign="+"),
        probability_cell(row.p_value),
    ]


def number_cell(value: float | None, metric: str, sign: str = "") -> str:
    """Format a value of a metric, as `format_table` does.

    Args:
        value: the value; None for a dash.
        metric: its name, which tells the format.
        sign: ``"+"`` for a difference.

    Example:
        >>> number_cell(0.123, "test/accuracy", "+"), number_cell(0.123, "test/loss")
        ('+12.30', '0.1230')
    """
    if value is None:
        return _NOTHING
    if not math.isfinite(value):
        return "nan"
    if is_percentage(metric) or metric.endswith("perplexity"):
        scale = 100 if is_percentage(metric) else 1
        # Not -0.00.
        return f"{round(scale * value, 2) + 0.0:{sign}.2f}"
    # "#" keeps the zeros that the four digits are made of; it leaves a point at the end of 1234.
    return f"{value:{sign}#.4g}".removesuffix(".")


def probability_cell(value: float | None) -> str:
    """Format the p of a test; None gives a dash."""
    if value is None:
        return _NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _minutes(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def aligned(lines: Iterable[Sequence[str]]) -> str:
    r"""Lay cells out as a Markdown table, padded to the width of columns: texts to the left, numbers to the right.

    Args:
        lines: The cells of the heading and of each row, of which the first `TEXT_COLUMNS` are texts.

    Example:
        >>> print(aligned([["task", "method", "loss"], ["a", "b|c", "0.5"]]))
        | task | method | loss |
        | :--- | :----- | ---: |
        | a    | b\|c   |  0.5 |
    """
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(2, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    sides = ["<" if index < TEXT_COLUMNS else ">" for index in range(len(widths))]
    rule = [
        f":{'-' * (width - 1)}" if side == "<" else f"{'-' * (width - 1)}:"
        for side, width in zip(sides, widths, strict=True)
    ]
    return "\n".join(
        f"| {' | '.join(f'{cell:{side}{width}}' for cell, side, width in zip(line, sides, widths, strict=True))} |"
        for line in [cells[0], rule, *cells[1:]]
    )

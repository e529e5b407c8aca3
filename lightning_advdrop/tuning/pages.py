"""The table and the picture of a search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_advdrop.drawing import as_png, panel_grid
from lightning_advdrop.files import write_whole
from lightning_advdrop.report import Page, Picture, Table, as_html, as_markdown
from lightning_advdrop.report.metrics import axis_label, is_percentage
from lightning_advdrop.report.samples import deviation, mean
from lightning_advdrop.report.tables import aligned, number_cell
from lightning_advdrop.report.upload import upload_tables
from lightning_advdrop.tuning.results import Interval, Result, Row, confidence_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE_FILE, HTML_FILE, PICTURE_FILE = "tune.md", "tune.html", "methods.png"
_EXPLANATION = """\
`{metric}` of runs with fresh seeds and the values that the search found, as mean and sample standard deviation (std).
The difference is paired over the seeds: to the best other method, with its 95 % confidence interval (Student's t). It
is not corrected for the choice of that other method. Cost is the median duration of a training step, in those of plain
training (`none`). Best by the validation metric: {best}."""
_CAPTION = "Each dot is a run with a fresh seed; the bars are the mean and its 95 % confidence interval."


def table_cells(found: Result) -> list[list[str]]:
    """Format the cells of the table, line by line from the heading on.

    Args:
        found: what the search has found.
    """
    unit, points = (" (%)", " (points)") if is_percentage(found.metric) else ("", "")
    headings = ["method", "values", "seeds", f"mean {found.metric}{unit}", f"std{unit}", f"difference{points}"]
    headings += ["95 % interval", "to", "cost"]
    return [headings, *(_cells(row, found.metric) for row in found.rows)]


def _cells(row: Row, metric: str) -> list[str]:
    numbers = list(row.results.values())
    values = ", ".join(f"{name} {_short(value)}" for name, value in (row.values or {}).items())
    difference = row.difference
    return [
        row.method,
        values or "\N{EN DASH}",
        str(len(numbers)),
        number_cell(mean(numbers) if numbers else None, metric),
        number_cell(deviation(numbers), metric),
        number_cell(None if difference is None else difference.mean, metric, "+"),
        _interval(difference, metric),
        row.other or "\N{EN DASH}",
        "\N{EN DASH}" if row.cost is None else f"{row.cost:.2f}",
    ]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _interval(found: Interval | None, metric: str) -> str:
    if found is None or found.low is None or found.high is None:
        return "\N{EN DASH}"
    return f"{number_cell(found.low, metric, '+')} to {number_cell(found.high, metric, '+')}"


def methods_figure(rows: Sequence[Row], metric: str) -> Figure:
    """Draw the runs of each method, with mean and confidence interval.

    Args:
        rows: of the methods; those without a result are left out.
        metric: the name of the values.
    """
    factor = 100 if is_percentage(metric) else 1
    drawn = [row for row in rows if row.results]
    figure, (axes,) = panel_grid(1)
    figure.set_size_inches(6.4, 1.2 + 0.45 * len(drawn))
    for place, row in enumerate(drawn):
        values = [factor * value for value in row.results.values()]
        found = confidence_interval(values)
        axes.plot(values, [place] * len(values), "o", color="#56B4E9", markersize=4, alpha=0.9)
        if found.low is not None:
            axes.errorbar(found.mean, place, xerr=found.mean - found.low, fmt="|", color="#000000", capsize=4)
    axes.set_yticks(range(len(drawn)), [row.method for row in drawn])
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.set_xlabel(axis_label(metric))
    return figure


def upload_result(project: str, found: Result) -> None:
    """Log the results with fresh seeds and the picture to Weights & Biases, in a run of its own.

    Args:
        project: the project.
        found: what the search has found.

    Raises:
        ValueError: if ``WANDB_MODE`` is ``online`` and there is no key.
        MissingExtraError: if W&B is not installed.
    """
    columns = ["method", "values", "seeds", "mean", "std", "difference", "low", "high", "to", "cost"]
    rows = [[row.method, json.dumps(row.values), len(row.results), *_numbers(row)] for row in found.rows]
    picture = found.output / PICTURE_FILE
    name = f"tune {found.output.name}"
    upload_tables(project, name, {found.metric: [columns, *rows]}, [picture], found.output, kind="tune")


def _numbers(row: Row) -> list[object]:
    values, between = list(row.results.values()), row.difference
    interval = [None] * 3 if between is None else [between.mean, between.low, between.high]
    return [mean(values) if values else None, deviation(values), *interval, row.other, row.cost]


def write_pages(found: Result) -> Result:
    """Write the table as Markdown and HTML, and the picture, into the folder of a search.

    Args:
        found: what the search has found.

    Returns:
        The same, with its table.
    """
    cells = table_cells(found)
    picture = Picture(found.output / PICTURE_FILE, "Methods", _CAPTION)
    write_whole(picture.path, as_png(lambda: methods_figure(found.rows, found.metric)))
    told = _EXPLANATION.format(metric=found.metric, best=f"`{found.best}`")
    page = Page(f"Tuning: {found.metric}", [Table(found.metric, cells)], told, [picture], list(found.remarks))
    for name, text in ((TABLE_FILE, as_markdown(page)), (HTML_FILE, as_html(page))):
        write_whole(found.output / name, text)
    return replace(found, table=aligned(cells))

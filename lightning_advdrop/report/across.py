"""The page that compares methods across searches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_advdrop.drawing import as_png, panel_grid, whole_numbers
from lightning_advdrop.files import write_whole, writing
from lightning_advdrop.report.errors import ReportError
from lightning_advdrop.report.metrics import is_percentage, listed
from lightning_advdrop.report.pages import Page, Picture, Table, as_html, as_markdown
from lightning_advdrop.report.samples import deviation
from lightning_advdrop.report.searches import Search
from lightning_advdrop.report.standings import Comparison, Standing, comparable, compare, seed_remarks
from lightning_advdrop.report.tables import aligned, number_cell, probability_cell
from lightning_advdrop.report.upload import upload_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_FILE = "ranks.png"
_IMAGES = "images"
_BEGIN, _END = "<!-- advdrop report: begin -->", "<!-- advdrop report: end -->"
_EXPLANATION = """\
The mean rank is that of the mean {metrics} over the seeds, in {count} searches; 1 is the best, and ties share their
ranks. Against a baseline: the difference of the means, averaged over the searches; in how many searches a method is
better and worse; and p of a two-sided Wilcoxon signed-rank test over the searches, on relative differences, not
corrected for the number of comparisons. Cost is the median duration of a step, in those of plain training. The second
table has the mean over the seeds, with the sample standard deviation in brackets{unit}."""
_CAPTION = "Each dot is the rank of a method in one search; the bar is the mean."


def standing_cells(standings: Sequence[Standing], metric: str) -> list[list[str]]:
    """Format the table of ranks, line by line from the heading on.

    Args:
        standings: of the methods.
        metric: which the differences are of; its name tells their format.
    """
    names = [*dict.fromkeys(name for row in standings for name in row.against)]
    points = " (points)" if is_percentage(metric) else ""
    headings = ["method", "cost", "mean rank"]
    for name in names:
        headings += [f"vs. {name}{points}", "better, worse", "p"]
    return [headings, *(_standing(row, names, metric) for row in standings)]


def _standing(row: Standing, baselines: Sequence[str], metric: str) -> list[str]:
    cells = [row.method, "\N{EN DASH}" if row.cost is None else f"{row.cost:.1f}", f"{row.rank:.1f}"]
    for name in baselines:
        cells += _comparison(row.against.get(name), metric)
    return cells


def _comparison(found: Comparison | None, metric: str) -> list[str]:
    if found is None:
        return ["\N{EN DASH}"] * 3
    difference = number_cell(found.difference, metric, "+")
    return [difference, f"{found.better}, {found.worse}", probability_cell(found.p_value)]


def search_cells(searches: Sequence[Search], methods: Sequence[str]) -> list[list[str]]:
    """Format the table of all results: a line for each search, a column for each method."""
    # Headings that can be broken, since there may be many.
    lines = [["search", "seeds", *(method.replace("_", " ") for method in methods)]]
    for each in searches:
        seeds = {len(each.results[method]) for method in methods}
        count = str(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
        lines.append([each.name, count, *(_result(each, method) for method in methods)])
    return lines


def _result(search: Search, method: str) -> str:
    found = deviation(search.results[method].values())
    spread = "" if found is None else f" ({number_cell(found, search.metric)})"
    return f"{number_cell(search.mean(method), search.metric)}{spread}"


def ranks_figure(searches: Sequence[Search], standings: Sequence[Standing]) -> Figure:
    """Draw the rank of each method in each search, and its mean.

    Args:
        searches: at least one.
        standings: of the methods, in the order of the picture.
    """
    figure, (axes,) = panel_grid(1)
    figure.set_size_inches(6.4, 1.2 + 0.3 * len(standings))
    single = [{row.method: row.rank for row in compare([each], [])} for each in comparable(searches)]
    for place, row in enumerate(standings):
        ranks = [each[row.method] for each in single]
        axes.plot(ranks, [place] * len(ranks), "o", color="#56B4E9", markersize=4, alpha=0.7)
        axes.plot(row.rank, place, "|", color="#000000", markersize=14, markeredgewidth=1.5)
    axes.set_yticks(range(len(standings)), [row.method for row in standings])
    axes.set_ylim(len(standings) - 0.5, -0.5)
    whole_numbers(axes.xaxis)
    axes.set_xlabel(f"Rank in each of {len(searches)} searches (1 is the best)")
    return figure


def report_searches(
    searches: Sequence[Search], baselines: Sequence[str], output: Path, remarks: Sequence[str] = ()
) -> tuple[Page, list[Standing]]:
    """Write the page as Markdown and HTML, with its picture.

    Args:
        searches: at least one.
        baselines: names of methods to compare with.
        output: the folder.
        remarks: on what was left out.

    Returns:
        The page, and how the methods do.

    Raises:
        ReportError: if the searches have no method in common, or a baseline is in not all of them; or if the methods
            share no seed.
        OSError: if a file can't be written.
    """
    standings, compared = compare(searches, baselines), comparable(searches)
    metrics = [*dict.fromkeys(each.metric for each in searches)]
    cells = standing_cells(standings, metrics[0])
    methods = [row.method for row in standings]
    remarks = [*remarks, *_left_out(searches, {*methods}), *_on_results(searches, compared)]
    tables = [Table("Methods", cells), Table("Searches", search_cells(compared, methods))]
    picture = Picture(output / PICTURE_FILE, "Rank of each method in each search", _CAPTION)
    named = listed([f"`{each}`" for each in metrics], "or")
    unit = ", in %" if all(map(is_percentage, metrics)) else ""
    told = _EXPLANATION.format(metrics=named, count=len(searches), unit=unit)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    page = Page(f"Methods over {len(searches)} searches", tables, told, [picture], remarks)
    write_whole(picture.path, as_png(lambda: ranks_figure(searches, standings)))
    write_whole(output / "report.md", as_markdown(page))
    write_whole(output / "report.html", as_html(page))
    return page, standings


def upload_searches(
    project: str, searches: Sequence[Search], standings: Sequence[Standing], picture: Path, folder: Path
) -> None:
    """Log all results, the ranks and the picture to Weights & Biases, see `upload_tables`.

    Args:
        project: the project.
        searches: at least one.
        standings: of the methods.
        picture: the file.
        folder: where the run is written.
    """
    results: list[list[object]] = [
        [each.name, each.metric, method, seed, value]
        for each in searches
        for method, values in each.results.items()
        for seed, value in values.items()
    ]
    ranks: list[list[object]] = [
        [row.method, row.rank, row.cost, name, found.difference, found.better, found.worse, found.p_value]
        for row in standings
        for name, found in row.against.items()
    ]
    of_runs: list[object] = ["search", "metric", "method", "seed", "value"]
    of_methods: list[object] = ["method", "mean_rank", "cost", "baseline", "difference", "better", "worse", "p_value"]
    tables = {"runs": [of_runs, *results], "methods": [of_methods, *ranks]}
    upload_tables(project, f"report {', '.join(each.name for each in searches)}", tables, [picture], folder)


def _left_out(searches: Sequence[Search], kept: set[str]) -> list[str]:
    others = {method for each in searches for method in each.results} - kept
    return [f"{method} is left out, since not all searches have it" for method in sorted(others)]


def _on_results(searches: Sequence[Search], compared: Sequence[Search]) -> list[str]:
    pairs = [*zip(searches, compared, strict=True)]
    of_files = [f"{each.name}: {told}" for each in searches for told in each.remarks]
    return of_files + [told for search, shared in pairs for told in seed_remarks(search, shared)]


def around_tables(path: Path) -> tuple[str, str]:
    """Read a Markdown file, less what stands between its two marked lines.

    Args:
        path: the file, with the lines ``<!-- advdrop report: begin -->`` and ``<!-- advdrop report: end -->``.

    Returns:
        What is before the first one, and after the second.

    Raises:
        ReportError: if there is no such file, it can't be read as UTF-8, or it has no such lines.
    """
    wanted = f"docs must be a Markdown file in UTF-8 with the lines {_BEGIN!r} and {_END!r}, got {str(path)!r}"
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{wanted} ({error}).") from error
    before, first, rest = content.partition(_BEGIN)
    _, second, after = rest.partition(_END)
    if not (first and second):
        raise ReportError(f"{wanted}.")
    return before, after


def write_docs(page: Page, path: Path) -> None:
    """Write the tables of a page into a Markdown file, between two marked lines, and the picture beside it.

    Args:
        page: the page, whose picture is copied to the folder ``images`` beside the file.
        path: the file, with the lines ``<!-- advdrop report: begin -->`` and ``<!-- advdrop report: end -->``.

    Raises:
        ReportError: if there is no such file, it can't be read as UTF-8, or it has no such lines.
        OSError: if a file can't be written.
    """
    before, after = around_tables(path)
    (picture,) = page.pictures
    shown = f"![{picture.title}]({_IMAGES}/{picture.path.name})\n\n{picture.caption}"
    text = "\n\n".join([aligned(page.tables[0].cells), page.explanation, shown, aligned(page.tables[1].cells)])
    images = path.parent / _IMAGES
    with writing(images):
        images.mkdir(exist_ok=True)
    write_whole(images / picture.path.name, picture.path.read_bytes())
    write_whole(path, f"{before}{_BEGIN}\n{text}\n{_END}{after}")

"""The command ``advdrop report``."""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from lightning_advdrop.files import write_whole, writing
from lightning_advdrop.report.across import around_tables, report_searches, upload_searches, write_docs
from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.figures import choose_figures
from lightning_advdrop.report.groups import PLAIN, Group, group_runs
from lightning_advdrop.report.histories import METRICS_FILE
from lightning_advdrop.report.metrics import PREFERRED, choose_metrics, direction, listed, validation_metric
from lightning_advdrop.report.pages import Page, Table, as_html, as_markdown
from lightning_advdrop.report.plots import has_curves
from lightning_advdrop.report.runs import Run, find_runs, load_run, natural_key
from lightning_advdrop.report.searches import PLAIN_METHOD, find_searches, read_searches
from lightning_advdrop.report.tables import Row, aligned, summarize, table_cells
from lightning_advdrop.report.upload import upload_report

TABLE_FILE = "report.md"
HTML_FILE = "report.html"
_FEW_RUNS = 20
# The options that are of runs only.
_OF_RUNS = ("metric", "curve", "by")
_EXPLANATION = """\
{metrics} is the last value that a run logged, as mean and sample standard deviation (std) over the seeds; "vs.
{baseline}" is the difference to the mean of {baseline}, p that of a paired, two-sided t-test over the seeds that both
have.{lower}{minutes}"""
_MINUTES = " Minutes are from the writing of `config.yaml` to that of the last value, as mean over the runs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``advdrop report`` to a parser.

    Args:
        parser: The parser of the command.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["runs/digits"]).runs[0].name
        'digits'
    """
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUNS", help="run folders, or folders that hold such; or of `tune`"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report"), metavar="FOLDER", help="where to write (default: %(default)s)"
    )
    parser.add_argument(
        "--metric",
        help=f"what the table compares (default: in each experiment, the first logged of {', '.join(PREFERRED)})",
    )
    parser.add_argument(
        "--curve", help="what the figure shows (default: the metric of the same name on the validation data)"
    )
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="SETTING",
        help="a setting that tells methods apart, too, e.g. model.init_args.hidden_size; may be given several times",
    )
    told = f"method to compare with (default: {PLAIN}); several, with commas between them, for results of `tune`"
    parser.add_argument("--baseline", help=told)
    told = "Markdown file into which the tables of results of `tune` are written, too, between two marked lines"
    parser.add_argument("--docs", type=Path, metavar="FILE", help=told)
    parser.add_argument(
        "--wandb", metavar="PROJECT", help="also log the tables and the figures to this project of Weights & Biases"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make a report: print the table, and write it with the figures into the output folder, as Markdown and HTML.

    The names of runs that were left out and of files that were written go to the standard error stream, so that the
    table can be piped.

    Args:
        arguments: The result of the parser to which `add_arguments` added its arguments.

    Returns:
        Exit code: 0, or 2 if no report could be made.

    Example:
        >>> from contextlib import redirect_stderr
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> with redirect_stderr(sys.stdout):  # doctest: +NORMALIZE_WHITESPACE
        ...     run(parser.parse_args(["no-such-folder"]))
        Left out: no-such-folder: found no such folder
        Error: found no usable run in no-such-folder (left out: 1): looked for 'test/accuracy', 'test/error',
        'test/perplexity' or 'test/loss' in metrics.csv, but no run could be read; RUNS must be folders that hold
        version_<n>/metrics.csv and config.yaml, as `fit` leaves them
        2
    """
    try:
        searches = find_searches(map(Path, arguments.runs))
        if searches:
            _report_searches(arguments, searches)
        else:
            _report(arguments)
    except (ReportError, OSError) as error:
        _say(f"Error: {error}")
        return 2
    return 0


def _report_searches(arguments: argparse.Namespace, paths: Sequence[Path]) -> None:
    """Compare methods across searches of ``advdrop tune``."""
    for option in _OF_RUNS:
        given = getattr(arguments, option)
        if given:
            raise ReportError(f"{option} must not be given for results of `advdrop tune`, got {given!r}")
    if arguments.docs is not None:
        around_tables(arguments.docs)  # a wrong file is told before anything is computed and written
    searches, left_out = read_searches(paths)
    left_out += [f"{path} has no results of `advdrop tune`" for path in arguments.runs if not find_searches([path])]
    for reason in left_out:
        _say(f"Left out: {reason}")
    if not searches:
        raise ReportError("found no search with a result; see what was left out")
    names = [name.strip() for name in (arguments.baseline or PLAIN_METHOD).split(",")]
    page, standings = report_searches(searches, names, Path(arguments.output), left_out)
    for note in page.remarks[len(left_out) :]:
        _say(f"Note: {note}")
    sys.stdout.write("\n".join(f"{aligned(table.cells)}\n" for table in page.tables))
    if arguments.docs is not None:
        write_docs(page, arguments.docs)
    if arguments.wandb is not None:
        upload_searches(arguments.wandb, searches, standings, page.pictures[0].path, Path(arguments.output))


def _report(arguments: argparse.Namespace) -> None:
    paths = [Path(path) for path in arguments.runs]
    output, baseline = Path(arguments.output), arguments.baseline or PLAIN
    if arguments.docs is not None:
        raise ReportError(f"docs needs results of `advdrop tune`, got none in {', '.join(map(str, paths))}")
    candidates = PREFERRED if arguments.metric is None else (arguments.metric,)
    loaded, left_out = _load(find_runs(paths))
    metrics = choose_metrics(loaded, candidates)
    chosen, without = _with_metric(loaded, metrics, candidates)
    left_out += without
    for reason in left_out:
        _say(f"Left out: {reason}")
    if not chosen:
        raise ReportError(_nothing_left(paths, candidates, loaded, len(left_out)))
    if arguments.curve is not None:
        _check_curve(chosen, arguments.curve)
    curves = {name: arguments.curve or validation_metric(metric) for name, metric in metrics.items()}
    groups, notes = group_runs(chosen, baseline, arguments.by)
    notes += _missing_baselines(groups, baseline) + _diverged(groups, metrics)
    figures, undrawn = choose_figures(groups, curves, baseline, output)
    for note in notes + undrawn:
        _say(f"Note: {note}")
    rows = _rows(groups, metrics, candidates, baseline)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    for _, draw in figures:
        draw()
    pictures = [picture for picture, _ in figures]
    tables = [Table(metric, table_cells(lines, metric, baseline)) for metric, lines in rows.items()]
    page = Page(f"Report: {', '.join(rows)}", tables, _explain(rows, baseline), pictures, left_out + notes + undrawn)
    write_whole(output / TABLE_FILE, as_markdown(page))
    write_whole(output / HTML_FILE, as_html(page))
    sys.stdout.write("\n".join(f"{aligned(table.cells)}\n" for table in tables))
    written = [output / TABLE_FILE, output / HTML_FILE, *(picture.path for picture in pictures)]
    _say(f"Wrote {listed([*map(str, written)], 'and')}")
    if arguments.wandb is not None:
        upload_report(arguments.wandb, rows, [picture.path for picture in pictures], output)


def _rows(
    groups: Sequence[Group], metrics: Mapping[str, str], candidates: Iterable[str], baseline: str
) -> dict[str, list[Row]]:
    """Compute the rows of each metric's table: values of different metrics must not stand below one another."""
    members = {metric: [group for group in groups if metrics[group.experiment] == metric] for metric in candidates}
    return {metric: summarize(found, metric, baseline) for metric, found in members.items() if found}


def _explain(rows: Mapping[str, Sequence[Row]], baseline: str) -> str:
    timed = any(row.minutes is not None for lines in rows.values() for row in lines)
    return _EXPLANATION.format(
        metrics=listed([f"`{metric}`" for metric in rows], "or"),
        baseline=baseline,
        lower=direction([*rows]),
        minutes=_MINUTES if timed else "",
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _load(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    runs, reasons = [], []
    # None: no bar where the output is a file or a pipe.
    disable = None if len(folders) > _FEW_RUNS else True
    for folder in tqdm(folders, desc="Reading runs", unit="run", disable=disable):
        try:
            runs.append(load_run(folder))
        except RunError as error:
            reasons.append(f"{folder}: {error}")
    return runs, reasons


def _with_metric(
    runs: Iterable[Run], metrics: Mapping[str, str], candidates: Sequence[str]
) -> tuple[list[Run], list[str]]:
    """Keep the runs that logged the metric of their experiment, and name the others."""
    chosen, reasons = [], []
    for run in runs:
        looked = [metrics[run.experiment]] if run.experiment in metrics else candidates
        if looked[0] in run.history:
            chosen.append(run)
        else:
            reasons.append(f"{run.folder}: {METRICS_FILE} holds no value of {listed([*map(repr, looked)], 'or')}")
    return chosen, reasons


def _nothing_left(paths: Iterable[Path], candidates: Sequence[str], loaded: Sequence[Run], count: int) -> str:
    where = f"found no usable run in {', '.join(map(str, paths))} (left out: {count})"
    looked = f"{where}: looked for {listed([*map(repr, candidates)], 'or')} in metrics.csv, but"
    if not loaded:
        return (
            f"{looked} no run could be read; RUNS must be folders that hold version_<n>/metrics.csv and config.yaml, as"
            " `fit` leaves them"
        )
    return f"{looked} the runs logged {_metrics(loaded)}; choose one with --metric, or run `test` to log test metrics"


def _check_curve(runs: Sequence[Run], curve: str) -> None:
    if not any(has_curves(one, [curve]) for one in runs):
        raise ReportError(
            f"found no run to draw: looked for {curve!r} by epoch in metrics.csv, but the runs logged {_metrics(runs)};"
            " choose one with --curve"
        )


def _metrics(runs: Iterable[Run]) -> str:
    return ", ".join(sorted({name for one in runs for name in one.history}, key=natural_key))


def _missing_baselines(groups: Iterable[Group], baseline: str) -> list[str]:
    experiments: dict[str, list[str]] = {}
    for group in groups:
        experiments.setdefault(group.experiment, []).append(group.method)
    return [
        f"{experiment} has no run of the baseline {baseline!r}; --baseline may name one of: {', '.join(methods)}"
        for experiment, methods in experiments.items()
        if baseline not in methods
    ]


def _diverged(groups: Iterable[Group], metrics: Mapping[str, str]) -> list[str]:
    ends = [(run, metrics[run.experiment]) for group in groups for run in group.runs]
    return [
        f"{run.folder} ended with {metric}={run.series(metric).last}, so that its row has no mean"
        for run, metric in ends
        if not abs(run.series(metric).last) < float("inf")  # false for nan, too
    ]

"""The command ``advdrop report``."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.figures import choose_figures, has_curve
from lightning_advdrop.report.files import replacing
from lightning_advdrop.report.groups import PLAIN, Group, group_runs
from lightning_advdrop.report.pages import Page, as_html, as_markdown
from lightning_advdrop.report.runs import Run, find_runs, load_run, natural_key
from lightning_advdrop.report.tables import format_table, summarize, table_cells

TABLE_FILE = "report.md"
HTML_FILE = "report.html"
_FEW_RUNS = 20
_EXPLANATION = """\
`{metric}` is the last value that a run logged, as mean and sample standard deviation (std) over the seeds; "vs.
{baseline}" is the difference to the mean of {baseline}, p that of a paired, two-sided t-test over the seeds that both
have.{minutes}"""
_MINUTES = " Minutes are from the writing of `config.yaml` to that of the last value, as mean over the runs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``advdrop report`` to a parser.

    Args:
        parser: The parser of the command.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> parser.parse_args(["runs/digits"]).metric
        'test/accuracy'
    """
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="run folders, or folders that hold such")
    parser.add_argument(
        "--output", type=Path, default=Path("report"), metavar="FOLDER", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--metric", default="test/accuracy", help="what the table compares (default: %(default)s)")
    parser.add_argument("--curve", default="val/accuracy", help="what the figure shows (default: %(default)s)")
    parser.add_argument("--baseline", default=PLAIN, help="method to compare with (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Make a report: print the table, and write it with the figures into the output folder, as Markdown and HTML.

    What was left out and what was written is said on the standard error stream, so that the table can be piped.

    Args:
        arguments: What the parser of :func:`add_arguments` returned.

    Returns:
        Exit code: 0, or 2 if no report could be made.

    Example:
        >>> from contextlib import redirect_stderr
        >>> parser = argparse.ArgumentParser()
        >>> add_arguments(parser)
        >>> with redirect_stderr(sys.stdout):  # doctest: +NORMALIZE_WHITESPACE
        ...     run(parser.parse_args(["no-such-folder"]))
        Left out: no-such-folder: found no such folder
        Error: found no usable run in no-such-folder (left out: 1): looked for 'test/accuracy' in metrics.csv, but no
        run could be read; RUNS must be folders that hold version_<n>/metrics.csv and config.yaml, as `fit` leaves them
        2
    """
    try:
        _report(arguments)
    except ReportError as error:
        _say(f"Error: {error}")
        return 2
    except OSError as error:
        _say(f"Error: output must be a folder that can be written to, got {str(arguments.output)!r} ({error})")
        return 2
    return 0


def _report(arguments: argparse.Namespace) -> None:
    paths = [Path(path) for path in arguments.runs]
    output, metric, baseline = Path(arguments.output), arguments.metric, arguments.baseline
    loaded, left_out = _load(find_runs(paths))
    chosen, without = _with_metric(loaded, metric)
    left_out += without
    for reason in left_out:
        _say(f"Left out: {reason}")
    if not chosen:
        raise ReportError(_nothing_left(paths, metric, loaded, len(left_out)))
    _check_curve(chosen, arguments.curve)
    groups, notes = group_runs(chosen, baseline)
    notes += _missing_baselines(groups, baseline) + _diverged(groups, metric)
    figures, undrawn = choose_figures(groups, arguments.curve, baseline)
    for note in notes + undrawn:
        _say(f"Note: {note}")
    rows = summarize(groups, metric, baseline)
    table = format_table(rows, metric, baseline)
    output.mkdir(parents=True, exist_ok=True)
    pictures = [draw(output) for draw in figures]
    timed = _MINUTES if any(row.minutes is not None for row in rows) else ""
    explanation = _EXPLANATION.format(metric=metric, baseline=baseline, minutes=timed)
    cells = table_cells(rows, metric, baseline)
    page = Page(f"Report: {metric}", table, cells, explanation, pictures, left_out + notes + undrawn)
    _write(output / TABLE_FILE, as_markdown(page))
    _write(output / HTML_FILE, as_html(page))
    sys.stdout.write(f"{table}\n")
    *first, last = [output / TABLE_FILE, output / HTML_FILE, *(picture.path for picture in pictures)]
    _say(f"Wrote {', '.join(map(str, first))} and {last}")


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


def _with_metric(runs: Iterable[Run], metric: str) -> tuple[list[Run], list[str]]:
    chosen, reasons = [], []
    for candidate in runs:
        try:
            candidate.series(metric)
        except RunError as error:
            reasons.append(f"{candidate.folder}: {error}")
        else:
            chosen.append(candidate)
    return chosen, reasons


def _nothing_left(paths: Iterable[Path], metric: str, loaded: Sequence[Run], count: int) -> str:
    where = f"found no usable run in {', '.join(map(str, paths))} (left out: {count})"
    looked = f"{where}: looked for {metric!r} in metrics.csv, but"
    if not loaded:
        return (
            f"{looked} no run could be read; RUNS must be folders that hold version_<n>/metrics.csv and config.yaml, as"
            " `fit` leaves them"
        )
    return f"{looked} the runs logged {_metrics(loaded)}; choose one with --metric, or run `test` to log test metrics"


def _check_curve(runs: Sequence[Run], curve: str) -> None:
    if not any(has_curve(one, curve) for one in runs):
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


def _diverged(groups: Iterable[Group], metric: str) -> list[str]:
    return [
        f"{one.folder} ended with {metric}={one.series(metric).last}, so that its row has no mean"
        for group in groups
        for one in group.runs
        if not abs(one.series(metric).last) < float("inf")  # false for nan, too
    ]


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")

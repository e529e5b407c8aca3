"""The command ``advdrop report``."""

import argparse
import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.groups import PLAIN, Group, group_runs
from lightning_advdrop.report.plots import axis_label, draw_curves
from lightning_advdrop.report.runs import Run, find_runs, load_run, natural_key
from lightning_advdrop.report.tables import format_table, summarize

TABLE_FILE = "report.md"
FIGURE_FILE = "curves.png"
_FEW_RUNS = 20
_EXPLANATION = """\
`{metric}` is the last value that a run logged, as mean and sample standard deviation (std) over the seeds; "vs.
{baseline}" is the difference to the mean of {baseline}, p that of a paired, two-sided t-test over the seeds that both
have.{minutes}"""
_MINUTES = " Minutes are from the writing of `config.yaml` to that of the last value, as mean over the runs."
_CAPTION = "{label} over the epochs: mean over the seeds; the band is one standard deviation to either side."


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
    """Make a report: print the table, and write it and the figure into the output folder.

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
    drawn, undrawn = _drawable(groups, arguments.curve)
    for note in notes + undrawn:
        _say(f"Note: {note}")
    rows = summarize(groups, metric, baseline)
    table = format_table(rows, metric, baseline)
    output.mkdir(parents=True, exist_ok=True)
    draw_curves(drawn, arguments.curve, output / FIGURE_FILE, baseline)
    timed = _MINUTES if any(row.minutes is not None for row in rows) else ""
    explanation = _EXPLANATION.format(metric=metric, baseline=baseline, minutes=timed)
    _write(output / TABLE_FILE, _page(table, metric, explanation, arguments.curve, left_out + notes + undrawn))
    sys.stdout.write(f"{table}\n")
    _say(f"Wrote {output / TABLE_FILE} and {output / FIGURE_FILE}")


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
    if not any(_has_curve(one, curve) for one in runs):
        raise ReportError(
            f"found no run to draw: looked for {curve!r} by epoch in metrics.csv, but the runs logged {_metrics(runs)};"
            " choose one with --curve"
        )


def _has_curve(candidate: Run, curve: str) -> bool:
    return curve in candidate.history and bool(candidate.history[curve].by_epoch)


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


def _drawable(groups: Iterable[Group], curve: str) -> tuple[list[Group], list[str]]:
    drawn, notes = [], []
    for group in groups:
        with_curve = [one for one in group.runs if _has_curve(one, curve)]
        notes += [
            f"{one.folder} is not in the figure: it did not log {curve!r} by epoch"
            for one in group.runs
            if not _has_curve(one, curve)
        ]
        if with_curve:
            drawn.append(Group(group.experiment, group.method, tuple(with_curve)))
    return drawn, notes


def _page(table: str, metric: str, explanation: str, curve: str, remarks: Sequence[str]) -> str:
    caption = _CAPTION.format(label=axis_label(curve))
    parts = [f"# Report: {metric}", table, explanation, f"![{axis_label(curve)}]({FIGURE_FILE})", caption]
    if remarks:
        parts += ["## Remarks", "\n".join(f"- {remark}" for remark in remarks)]
    return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

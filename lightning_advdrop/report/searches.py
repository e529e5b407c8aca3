"""Read the runs of searches, as ``advdrop tune`` leaves them."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TypeVar

from lightning_advdrop.files import TEXT_ENCODING
from lightning_advdrop.metric_names import better
from lightning_advdrop.report.errors import ReportError, RunError, reading
from lightning_advdrop.report.runs import natural_key
from lightning_advdrop.report.samples import mean, nonfinite_seeds, shared_seeds

RUNS_FILE, PLAIN_METHOD = "runs.csv", "none"
_DIGITS = 6
_COLUMNS = ("method", "phase", "seed", "values", "metric", "result", "step_seconds")
_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class Search:
    """The runs with fresh seeds of one search.

    Args:
        name: of the file, or of its folder if the file is called ``runs.csv``.
        metric: what `results` are values of.
        mode: which of them are better, ``min`` or ``max``.
        results: by method and seed, ``nan`` for runs that failed.
        cost: of a step of each method, in steps of plain training; empty without ``none``.
        remarks: on how the results were read.
    """

    name: str
    metric: str
    mode: str
    results: Mapping[str, Mapping[int, float]]
    cost: Mapping[str, float]
    remarks: Sequence[str] = ()

    def shared(self, methods: Collection[str]) -> Search:
        """Return the search without the other methods, and without seeds that some of these methods lack.

        A method with a result that is not finite keeps its seeds, and takes none from the others: it is the worst in
        any case.

        Args:
            methods: of the search.

        Raises:
            ReportError: if there is no seed that the methods share.
        """
        chosen = {name: self.results[name] for name in methods}
        finite = {name: results for name, results in chosen.items() if not nonfinite_seeds(results)}
        seeds = shared_seeds(finite.values())
        if finite and not seeds:
            told = "; ".join(f"{name} with {', '.join(map(str, results))}" for name, results in finite.items())
            raise ReportError(f"methods must share a seed to be compared, got none in {self.name}: {told}.")
        cut = {name: {seed: results[seed] for seed in seeds} for name, results in finite.items()}
        return replace(self, results={**chosen, **cut})

    def mean(self, method: str) -> float:
        """Return a method's mean over its seeds, ``nan`` if a run has failed or diverged."""
        return mean(self.results[method].values())

    def loss(self, method: str) -> float:
        """Return the mean, or its negative, such that the smaller is the better one; infinite if it is not finite.

        It is rounded, since equal results may differ in their last digits.
        """
        found = self.mean(method)
        signed = found if self.mode == "min" else -found
        return float(f"{signed:.{_DIGITS}g}") if math.isfinite(found) else math.inf


@dataclass(frozen=True)
class _Run:
    """A line of the file with a fresh seed; without a result if the run failed."""

    method: str
    seed: int
    metric: str
    mode: str
    tested: bool
    result: float | None
    validation: float | None
    step_seconds: float | None


def find_searches(paths: Iterable[Path]) -> list[Path]:
    """Find the files with the runs of searches.

    Args:
        paths: such files; or folders with such files, or with folders that have a ``runs.csv``.

    Returns:
        Each file once, however often it was named.

    Raises:
        RunError: if one can't be read.

    Example:
        >>> find_searches([Path("no-such-folder")])
        []
    """
    found: dict[Path, Path] = {}
    for path in paths:
        inside = [*path.glob("*.csv"), *path.glob(f"*/{RUNS_FILE}")] if path.is_dir() else [path]
        for each in sorted(filter(_is_search, inside), key=lambda each: natural_key(str(each))):
            found.setdefault(each.resolve(), each)
    return [*found.values()]


def _is_search(path: Path) -> bool:
    if path.suffix != ".csv" or not path.is_file():
        return False
    with reading(path, "`advdrop tune`"), path.open(encoding=TEXT_ENCODING, errors="replace") as file:
        return file.readline().startswith("method,phase,")


def read_search(path: Path) -> Search:
    """Read the runs with fresh seeds.

    A run that failed has the result ``nan``, unless it was made again. If some runs were tested and others were not,
    the results are those of the validation.

    Args:
        path: of the file.

    Raises:
        RunError: if it can't be read, has other columns or wrong numbers, or no run with a fresh seed has ended; if the
            results are of several metrics; or if neither a column ``mode`` nor the metric's name tells which values are
            better. The message gives the reason, without the path.
    """
    with reading(path, "`advdrop tune`"), path.open(newline="", encoding=TEXT_ENCODING) as file:
        lines = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (lines.fieldnames or ())]
        if missing:
            raise RunError(f"must have the columns {', '.join(_COLUMNS)}, got none called {', '.join(missing)}")
        # What has neither a result nor an error was killed, or is going on.
        runs = [
            _run(line, lines.line_num)
            for line in lines
            if line["phase"] == "seeds" and (line["result"] or line.get("error"))
        ]
    done = [run for run in runs if run.result is not None]
    if not done:
        raise RunError("has no run with a fresh seed that ended; run `advdrop tune` again to go on")
    metric, mode, by_validation = _metric(done)
    results: dict[str, dict[int, float]] = {run.method: {} for run in runs}
    for run in runs:
        value = run.validation if by_validation else run.result
        if value is not None:
            results[run.method][run.seed] = value
        else:
            results[run.method].setdefault(run.seed, math.nan)
    told = f"not all runs were tested, so that the results are those of the validation, {metric}"
    name = path.resolve().parent.name if path.name == RUNS_FILE else path.stem
    return Search(name, metric, mode, results, _costs(done), [told] if by_validation else [])


def _run(line: Mapping[str, str], place: int) -> _Run:
    def number(column: str) -> float | None:
        return _number(float, line, column, place) if line.get(column) else None

    return _Run(
        method=line["method"],
        seed=_number(int, line, "seed", place),
        metric=line["metric"],
        mode=line.get("mode") or "",  # files of earlier versions have none
        tested=bool(line.get("test")),
        result=number("result"),
        validation=number("validation"),
        step_seconds=number("step_seconds"),
    )


def _number(kind: Callable[[str], _N], line: Mapping[str, str], column: str, place: int) -> _N:
    try:
        return kind(line[column] or "")
    except ValueError:
        allowed = "a whole number" if kind is int else "a number"
        raise RunError(f"{column} must be {allowed}, got {line[column]!r} in line {place}") from None


def _metric(done: Sequence[_Run]) -> tuple[str, str, bool]:
    """The metric of the results, which of its values are better, and whether it is that of the validation."""
    metrics = {run.metric for run in done}
    by_validation = len(metrics) > 1
    if by_validation:
        found = ", ".join(sorted(metrics))
        metrics = {run.metric for run in done if not run.tested}
        if len(metrics) != 1 or any(run.validation is None for run in done):
            told = "metric must be the same in all runs with fresh seeds, or all must have one validation metric"
            raise RunError(f"{told}, got {found}; run `advdrop tune` again with another output")
    (metric,) = metrics
    modes = {run.mode for run in done if run.metric == metric and run.mode} or {better(metric) or ""}
    if modes not in ({"min"}, {"max"}):
        found = ", ".join(sorted(map(repr, modes)))
        told = f"mode must be min or max, the same in all runs, where {metric!r} doesn't tell it; got {found}"
        raise RunError(f"{told}; run `advdrop tune` again to write it")
    return metric, modes.pop(), by_validation


def _costs(done: Iterable[_Run]) -> dict[str, float]:
    """The median step of each method, in median steps of plain training."""
    seconds: dict[str, list[float]] = {}
    for run in done:
        if run.step_seconds is not None:
            seconds.setdefault(run.method, []).append(run.step_seconds)
    if PLAIN_METHOD not in seconds:
        return {}
    plain = median(seconds[PLAIN_METHOD])
    return {method: median(each) / plain for method, each in seconds.items()}


def read_searches(paths: Iterable[Path]) -> tuple[list[Search], list[str]]:
    """Read several files, see `read_search`; equal names get the folder's in front of them.

    Args:
        paths: of the files.

    Returns:
        The searches, and why others were left out.
    """
    found: dict[Path, Search] = {}
    left_out = []
    for path in paths:
        try:
            found[path] = read_search(path)
        except RunError as error:
            left_out.append(f"{path}: {error}")
    names = Counter(each.name for each in found.values())
    searches = [
        replace(each, name=f"{_folder(path)}/{each.name}") if names[each.name] > 1 else each
        for path, each in found.items()
    ]
    return searches, left_out


def _folder(path: Path) -> str:
    parents = path.resolve().parents
    return parents[1 if path.name == RUNS_FILE else 0].name

"""Read the runs of searches, as ``advdrop tune`` leaves them, and compare methods across the searches."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from lightning_advdrop._extras import needed
from lightning_advdrop.files import TEXT_ENCODING
from lightning_advdrop.metric_names import better
from lightning_advdrop.report.errors import ReportError, RunError, reading
from lightning_advdrop.report.runs import natural_key
from lightning_advdrop.report.samples import mean

RUNS_FILE, PLAIN_METHOD = "runs.csv", "none"
_DIGITS, _DIVERGED = 6, 3.0
_COLUMNS = ("method", "phase", "seed", "values", "metric", "result", "step_seconds")


@dataclass(frozen=True)
class Search:
    """The runs with fresh seeds of one search.

    Args:
        name: of the file, or of its folder if the file is called ``runs.csv``.
        metric: what `results` are values of.
        mode: which of them are better, ``min`` or ``max``.
        results: by method and seed.
        cost: of a step of each method, in steps of plain training; empty without ``none``.
    """

    name: str
    metric: str
    mode: str
    results: Mapping[str, Mapping[int, float]]
    cost: Mapping[str, float]

    def only(self, methods: Collection[str]) -> Search:
        """Return the search without the other methods."""
        return replace(self, results={name: self.results[name] for name in methods})

    def mean(self, method: str) -> float:
        """Return a method's mean over the seeds, ``nan`` if a run has diverged."""
        return mean(self.results[method].values())

    def loss(self, method: str) -> float:
        """Return the mean, or its negative, such that the smaller is the better one; infinite if a run has diverged.

        It is rounded, since equal results may differ in their last digits.
        """
        found = self.mean(method)
        signed = found if self.mode == "min" else -found
        return float(f"{signed:.{_DIGITS}g}") if math.isfinite(found) else math.inf


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline, over searches.

    Args:
        difference: of the means, averaged over the searches; None where their metrics differ.
        better: in how many searches it is the better one.
        worse: in how many it is the worse one.
        p_value: of a two-sided Wilcoxon signed-rank test over the searches; None for fewer than five differences.
    """

    difference: float | None
    better: int
    worse: int
    p_value: float | None


@dataclass(frozen=True)
class Standing:
    """How a method does over several searches.

    Args:
        method: its name.
        rank: the mean of its ranks, 1 for the best; ties share theirs.
        against: the baselines, by name; without the method itself.
        cost: the median of the costs of a step; None where no search tells it.
    """

    method: str
    rank: float
    against: Mapping[str, Comparison]
    cost: float | None


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

    Args:
        path: of the file.

    Raises:
        RunError: if it can't be read, has other columns, or no run with a fresh seed has ended; or if neither a column
            ``mode`` nor the metric's name tells which values are better.
    """
    with reading(path, "`advdrop tune`"), path.open(newline="", encoding=TEXT_ENCODING) as file:
        lines = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (lines.fieldnames or ())]
        if missing:
            raise RunError(f"{path} must have the columns {', '.join(_COLUMNS)}, got none called {', '.join(missing)}")
        done = [line for line in lines if line["phase"] == "seeds" and line["result"]]
        results: dict[str, dict[int, float]] = {}
        seconds: dict[str, list[float]] = {}
        for line in done:
            results.setdefault(line["method"], {})[int(line["seed"])] = float(line["result"])
            if line["step_seconds"]:
                seconds.setdefault(line["method"], []).append(float(line["step_seconds"]))
    if not done:
        raise RunError(f"{path} has no run with a fresh seed that ended; run `advdrop tune` again to go on")
    plain = median(seconds[PLAIN_METHOD]) if PLAIN_METHOD in seconds else None
    cost = {} if plain is None else {method: median(each) / plain for method, each in seconds.items()}
    metric = done[0]["metric"]
    # Files of earlier versions have no mode.
    mode = done[0].get("mode") or better(metric)
    if mode not in ("min", "max"):
        told = f"{path} must have a column mode with min or max, since {metric!r} doesn't tell it, got {mode!r}"
        raise RunError(f"{told}; run `advdrop tune` again to write it")
    name = path.resolve().parent.name if path.name == RUNS_FILE else path.stem
    return Search(name, metric, mode, results, cost)


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
            left_out.append(str(error))
    names = Counter(each.name for each in found.values())
    searches = [
        replace(each, name=f"{_folder(path)}/{each.name}") if names[each.name] > 1 else each
        for path, each in found.items()
    ]
    return searches, left_out


def _folder(path: Path) -> str:
    parents = path.resolve().parents
    return parents[1 if path.name == RUNS_FILE else 0].name


def compare(searches: Sequence[Search], baselines: Collection[str]) -> list[Standing]:
    """Rank the methods that all searches have, and compare them with baselines.

    Args:
        searches: at least one.
        baselines: names of methods.

    Returns:
        A row for each method, the best mean rank first.

    Raises:
        ReportError: if no method is in all of the searches, or a baseline is not.

    Example:
        >>> a = Search("a", "test/error", "min", {"none": {1: 0.3, 2: 0.4}, "r_drop": {1: 0.2, 2: 0.3}}, {})
        >>> [(row.method, row.rank) for row in compare([a], ["none"])]
        [('r_drop', 1.0), ('none', 2.0)]
    """
    common = [method for method in searches[0].results if all(method in each.results for each in searches)]
    if not common:
        raise ReportError(f"searches must have a method in common, got {', '.join(each.name for each in searches)}.")
    for name in baselines:
        if name not in common:
            raise ReportError(f"baseline must be a method of all searches, {', '.join(common)}; got {name!r}.")
    with needed("The comparison of searches"):
        from scipy.stats import rankdata
    values = np.array([[each.loss(method) for method in common] for each in searches])
    ranks = rankdata(values, axis=1).mean(0)  # (methods,)
    rows = []
    for method, rank in zip(common, ranks, strict=True):
        costs = [each.cost[method] for each in searches if method in each.cost]
        against = {name: _against(searches, method, name) for name in baselines if name != method}
        rows.append(Standing(method, float(rank), against, median(costs) if costs else None))
    return sorted(rows, key=lambda row: row.rank)


def _against(searches: Sequence[Search], method: str, baseline: str) -> Comparison:
    differences = [each.mean(method) - each.mean(baseline) for each in searches]
    losses = [(each.loss(method), each.loss(baseline)) for each in searches]
    same = len({(each.metric, each.mode) for each in searches}) == 1
    return Comparison(
        mean(differences) if same else None,
        sum(ours < theirs for ours, theirs in losses),
        sum(ours > theirs for ours, theirs in losses),
        _wilcoxon(losses),
    )


def _wilcoxon(losses: Iterable[tuple[float, float]]) -> float | None:
    relative = [_relative(ours, theirs) for ours, theirs in losses if ours != theirs]
    if len(relative) < 5:
        return None
    from scipy.stats import wilcoxon

    return float(wilcoxon(relative).pvalue)


def _relative(ours: float, theirs: float) -> float:
    """The difference as a part of the larger one: errors of one search may be ten times those of another."""
    largest = max(abs(ours), abs(theirs))
    # What has diverged is worse than all else, by more than any relative difference.
    return (ours - theirs) / largest if math.isfinite(largest) else math.copysign(_DIVERGED, ours - theirs)

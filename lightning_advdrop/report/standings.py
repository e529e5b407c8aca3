"""Compare methods across searches."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from lightning_advdrop._extras import needed
from lightning_advdrop.report.errors import ReportError
from lightning_advdrop.report.metrics import listed
from lightning_advdrop.report.samples import mean, nonfinite_seeds
from lightning_advdrop.report.searches import Search

_DIVERGED = 3.0


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


def comparable(searches: Sequence[Search]) -> list[Search]:
    """Return the searches with the methods that all of them have, and the seeds that these share in each.

    Args:
        searches: at least one.

    Raises:
        ReportError: if no method is in all of the searches, or the methods share no seed.

    Example:
        >>> a = Search("a", "test/error", "min", {"none": {1: 0.3, 2: 0.4}, "r_drop": {1: 0.2}}, {})
        >>> [each.results for each in comparable([a])]
        [{'none': {1: 0.3}, 'r_drop': {1: 0.2}}]
    """
    common = [method for method in searches[0].results if all(method in each.results for each in searches)]
    if not common:
        raise ReportError(f"searches must have a method in common, got {', '.join(each.name for each in searches)}.")
    return [each.shared(common) for each in searches]


def seed_remarks(search: Search, compared: Search) -> list[str]:
    """Tell which methods of a search count as the worst, and which seeds the others are compared over.

    Args:
        search: as it was read.
        compared: the same, see `comparable`.
    """
    remarks, others = [], {}
    for method, results in compared.results.items():
        seeds = nonfinite_seeds(results)
        if seeds:
            told = f"{method} is the worst, since it has no finite result with seed {_listed(seeds)}"
            remarks.append(f"{search.name}: {told}")
        else:
            others[method] = [*results]
    if any(len(search.results[method]) > len(seeds) for method, seeds in others.items()):
        (shared, *_) = others.values()
        remarks.append(f"{search.name}: the means are over the seeds that the methods share: {_listed(shared)}")
    return remarks


def _listed(seeds: Sequence[int]) -> str:
    return listed([*map(str, seeds)], "and")


def compare(searches: Sequence[Search], baselines: Collection[str]) -> list[Standing]:
    """Rank the methods that all searches have, over the seeds that these share, and compare them with baselines.

    Args:
        searches: at least one.
        baselines: names of methods.

    Returns:
        A row for each method, the best mean rank first.

    Raises:
        ReportError: if no method is in all of the searches, or a baseline is not; or if the methods share no seed.

    Example:
        >>> a = Search("a", "test/error", "min", {"none": {1: 0.3, 2: 0.4}, "r_drop": {1: 0.2, 2: 0.3}}, {})
        >>> [(row.method, row.rank) for row in compare([a], ["none"])]
        [('r_drop', 1.0), ('none', 2.0)]
    """
    searches = comparable(searches)
    common = list(searches[0].results)
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

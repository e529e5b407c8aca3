"""Means and deviations of samples, some values of which may be infinite or no number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping


def mean(values: Collection[float]) -> float:
    """Return the mean; ``nan`` if a value is not finite.

    Args:
        values: at least one.

    Example:
        >>> mean([1.0, 2.0]), mean([1.0, math.inf])
        (1.5, nan)
    """
    return statistics.mean(values) if all(map(math.isfinite, values)) else math.nan


def deviation(values: Collection[float]) -> float | None:
    """Return the sample standard deviation; None for fewer than two values, ``nan`` if one is not finite.

    Args:
        values: of the sample.

    Example:
        >>> deviation([1.0, 3.0]), deviation([1.0]), deviation([1.0, math.nan])
        (1.4142135623730951, None, nan)
    """
    if len(values) < 2:
        return None
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def nonfinite_seeds(results: Mapping[int, float]) -> list[int]:
    """Return the seeds whose results are not finite, in their order.

    Example:
        >>> nonfinite_seeds({3: math.nan, 1: 0.5, 2: math.inf})
        [2, 3]
    """
    return sorted(seed for seed, value in results.items() if not math.isfinite(value))


def shared_seeds(results: Iterable[Mapping[int, float]]) -> list[int]:
    """Return the seeds that several methods have, in their order: over others, their means can't be compared.

    Args:
        results: of each method, by seed.

    Example:
        >>> shared_seeds([{1: 0.2, 2: 0.1, 3: 0.4}, {3: 0.3, 1: 0.1}])
        [1, 3]
    """
    seeds = [set(each) for each in results]
    return sorted(set.intersection(*seeds)) if seeds else []

"""Means and deviations of samples, some values of which may be infinite or no number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection


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

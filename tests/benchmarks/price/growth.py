"""How time and memory grow with the time steps T, and time with K further rounds of the search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression, median
from typing import Any

from tests.benchmarks.price.cell import Cell, memory
from tests.benchmarks.price.meters import Clock, ClockName
from tests.benchmarks.price.shapes import SHAPES, Sizes
from tests.benchmarks.price.steps import measure

STEPS, SMALL_STEPS = (98, 196, 392, 784), (12, 24)
ROUNDS = (1, 2, 4, 8)  # further ones, beside a first one
_ROUNDS_AT = 1  # the number in `STEPS` of those at which rounds are counted
METHOD = "label"


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent ``a`` of ``y = c * x ** a`` by least squares of the logarithms.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    slope: float = linear_regression([math.log(each) for each in x], [math.log(each) for each in y]).slope
    return slope


def measured(clock: ClockName, *, small: bool, repeats: int, jobs: int, with_memory: bool = True) -> dict[str, Any]:
    """Measure steps of the label search at several T, and of the gradient search with several rounds.

    Args:
        clock: what time is measured by.
        small: whether to use small sizes.
        repeats: rounds of each.
        jobs: processes that measure memory at the same time.
        with_memory: whether to measure memory.

    Returns:
        ``steps`` with the ``seconds`` and ``bytes`` of a step at each; ``rounds`` with the seconds that so many further
        ones add to a step of a search with one.
    """
    shape, steps = SHAPES["smnist"], SMALL_STEPS if small else STEPS
    whole = shape.small if small else shape.sizes
    sizes = [whole._replace(steps=count) for count in steps]
    seconds = [_seconds(shape_sizes, [METHOD], clock, repeats)[METHOD] for shape_sizes in sizes]
    # Beside a step of the same search: one of another method has a base pass and masks of another price.
    first, *others = names = [f"gradient@{1 + k}" for k in (0, *ROUNDS)]
    rounds = _seconds(sizes[_ROUNDS_AT], names, clock, repeats)
    added = [median(more - one for more, one in zip(rounds[name], rounds[first], strict=True)) for name in others]
    found = {"steps": list(steps), "seconds": [median(each) for each in seconds], "rounds": list(ROUNDS)}
    found["added"] = added
    if with_memory:
        found["bytes"] = memory([Cell("smnist", METHOD, each) for each in sizes], jobs)
    return found


def _seconds(sizes: Sizes, methods: list[str], clock: ClockName, repeats: int) -> dict[str, list[float]]:
    return measure(SHAPES["smnist"], methods, {"seconds": Clock(clock)}, sizes=sizes, repeats=repeats)["seconds"]


def exponents(growth: dict[str, Any]) -> dict[str, float]:
    """The exponents of time and memory in T, and of time in K, as far as they were measured."""
    found = {}
    if growth:
        found["time in T"] = exponent(growth["steps"], growth["seconds"])
        if all(each > 0 for each in growth["added"]):
            found["time in K"] = exponent(growth["rounds"], growth["added"])
        if all(isinstance(each, float) and each > 0 for each in growth.get("bytes", [""])):
            found["memory in T"] = exponent(growth["steps"], growth["bytes"])
    return found

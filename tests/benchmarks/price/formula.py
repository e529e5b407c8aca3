"""A formula for the seconds of a step, fitted at some sizes and checked at others.

With time steps ``T``, batch ``B``, units ``H``, rounds ``K``, processes ``P`` and ``b = B / P`` examples in each::

    plain    = a0 + T (a1 + a2 b H + a3 b H^2 + a4 H^2)
    label    = o + r plain
    gradient = o (1 + K) + (g0 + g1 K) plain
    P > 1    adds  d0 + d1 * parameters  to each

Coefficients are fitted to relative errors, none below 0. All processes have one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls

from tests.benchmarks.price.cell import Cell, seconds
from tests.benchmarks.price.meters import Clock, ClockName
from tests.benchmarks.price.shapes import SHAPES, Sizes
from tests.benchmarks.price.steps import measure

FITTED = [
    Sizes(50, 20, 50),
    Sizes(100, 20, 100),
    Sizes(100, 100, 50),
    Sizes(200, 100, 100),
    Sizes(100, 100, 200),
    Sizes(50, 50, 400),
    Sizes(400, 50, 50),
    Sizes(200, 20, 200),
]
CHECKED = [Sizes(150, 50, 100), Sizes(300, 100, 75), Sizes(80, 50, 300), Sizes(784, 100, 100)]
#: In each of two processes.
FITTED_BY_TWO = [Sizes(100, 20, 100), Sizes(50, 50, 400)]
CHECKED_BY_TWO = [Sizes(100, 100, 200)]
SMALL = [Sizes(steps, batch, units) for steps, batch, units in ((4, 2, 4), (8, 2, 4), (8, 4, 8))]
METHODS = ("plain", "label", "gradient@1", "gradient@3")
CHECKED_METHODS = ("plain", "label", "gradient@2")


@dataclass
class Point:
    """A measurement: the sizes in each process, the method, the processes, and the median seconds of a step."""

    sizes: Sizes
    method: str
    processes: int
    seconds: float
    fitted: bool

    def __post_init__(self) -> None:
        self.sizes = Sizes(*self.sizes)


class Formula(NamedTuple):
    """The coefficients: ``a0`` to ``a4``, ``(o, r, g0, g1)``, and ``(d0, d1)``."""

    plain: tuple[float, ...]
    regularized: tuple[float, ...]
    processes: tuple[float, ...]

    def seconds(self, sizes: Sizes, method: str, processes: int = 1) -> float:
        """What the formula says for a step."""
        plain = float(np.dot(_features(sizes), self.plain))
        found = plain if method == "plain" else float(np.dot(_passes(method, plain), self.regularized))
        return found + (processes > 1) * float(np.dot(_exchanged(sizes), self.processes))

    def __str__(self) -> str:
        a0, *rest = self.plain
        per_step = " + ".join(f"{1e6 * a:.3g}{f}" for a, f in zip(rest, ("", " b H", " b H^2", " H^2"), strict=True))
        overhead, label, first, more = self.regularized
        return (
            f"plain = {1e3 * a0:.1f} ms + T ({per_step}) µs; label = {1e3 * overhead:.1f} ms + {label:.2f} plain; "
            f"gradient = {1e3 * overhead:.1f} ms (1 + K) + ({first:.2f} + {more:.2f} K) plain; "
            f"two processes add {1e3 * self.processes[0]:.1f} ms + {1e9 * self.processes[1]:.3g} ns per parameter"
        )


def _features(sizes: Sizes) -> npt.NDArray[np.float64]:
    t, b, h, _ = sizes
    return np.array([1.0, t, t * b * h, t * b * h**2, t * h**2])


def _passes(method: str, plain: float) -> npt.NDArray[np.float64]:
    """What the coefficients of a regularized step belong to; further passes have a fixed cost each."""
    rounds = int(method.partition("@")[2] or 0)
    return np.array([1.0 + rounds, plain * (not rounds), plain * bool(rounds), plain * rounds])


def _exchanged(sizes: Sizes) -> npt.NDArray[np.float64]:
    h = sizes.units
    return np.array([1.0, 4 * h * (h + 1) + 8 * h + 10 * (h + 1)])  # sequential MNIST: 1 feature, 10 classes


def _relative(features: Sequence[npt.NDArray[np.float64]], values: Sequence[float]) -> tuple[float, ...]:
    """Coefficients of at least 0 whose relative errors have the least squares."""
    scaled = np.stack(features) / np.array(values)[:, None]
    return tuple(float(each) for each in nnls(scaled, np.ones(len(values)))[0])


def fit(points: Sequence[Point]) -> Formula:
    """Fit the formula to the points that are meant for it."""
    mine = [point for point in points if point.fitted]
    single = {(point.sizes, point.method): point.seconds for point in mine if point.processes == 1}
    plain = {sizes: value for (sizes, method), value in single.items() if method == "plain"}
    others = [(_passes(method, plain[sizes]), value) for (sizes, method), value in single.items() if method != "plain"]
    shared = [point for point in mine if point.processes > 1]
    added = [max(0.0, point.seconds - single[point.sizes, point.method]) for point in shared]
    return Formula(
        _relative([_features(sizes) for sizes in plain], list(plain.values())),
        _relative([features for features, _ in others], [value for _, value in others]),
        tuple(
            float(each) for each in nnls(np.stack([_exchanged(point.sizes) for point in shared]), np.array(added))[0]
        ),
    )


def errors(points: Sequence[Point], formula: Formula) -> dict[str, list[float]]:
    """The relative errors of the formula, ``fitted`` and ``checked``."""
    found: dict[str, list[float]] = {"fitted": [], "checked": []}
    for point in points:
        predicted = formula.seconds(point.sizes, point.method, point.processes)
        found["fitted" if point.fitted else "checked"].append(predicted / point.seconds - 1)
    return found


def measured(clock: ClockName, *, small: bool, repeats: int) -> list[dict[str, Any]]:
    """Measure all points, with one thread in each process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        places: Mapping[bool, tuple[list[Sizes], tuple[str, ...]]] = {
            True: (SMALL[:2] if small else FITTED, METHODS),
            False: (SMALL[2:] if small else CHECKED, CHECKED_METHODS),
        }
        points = [
            Point(sizes, method, 1, median(values), fitted)
            for fitted, (all_sizes, methods) in places.items()
            for sizes in all_sizes
            for method, values in measure(
                SHAPES["smnist"], methods, {"seconds": Clock(clock)}, sizes=sizes, repeats=repeats
            )["seconds"].items()
        ]
    finally:
        torch.set_num_threads(threads)
    by_two = {True: SMALL[:1] if small else FITTED_BY_TWO, False: SMALL[1:2] if small else CHECKED_BY_TWO}
    pairs = [(sizes, fitted) for fitted, all_sizes in by_two.items() for sizes in all_sizes]
    cells = [Cell("smnist", "label", sizes, processes=2, repeats=repeats, clock=clock) for sizes, _ in pairs]
    for (sizes, fitted), value in zip(pairs, seconds(cells), strict=True):
        if isinstance(value, str):
            raise RuntimeError(f"A step in two processes failed at {sizes}: {value}")  # noqa: TRY004
        points.append(Point(sizes, "label", 2, value, fitted))
    return [asdict(point) for point in points]

"""What a step may cost, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.benchmarks.price.growth import exponents
from tests.benchmarks.price.methods import TITLES
from tests.benchmarks.price.results import Results, Spread, spread
from tests.benchmarks.price.shapes import SHAPES

Value = Spread | float | None


@dataclass(frozen=True)
class Target:
    """A bound on one value.

    Attributes:
        what: what is measured.
        high: the most it may be.
        value: takes it from the results; None if it was not measured.
        low: the least it may be.
    """

    what: str
    high: float
    value: Callable[[Results], Value]
    low: float = 0.0

    @property
    def limit(self) -> str:
        return f"<= {self.high}" if not self.low else f"{self.low} to {self.high}"

    def reached(self, results: Results) -> str:
        """``yes``, ``no``, or ``not measured``; by the median."""
        value = self.value(results)
        if value is None:
            return "not measured"
        middle = value.middle if isinstance(value, Spread) else value
        return "yes" if self.low <= middle <= self.high else "no"


def _time(shape: str, method: str, high: float, to: str = "plain") -> Target:
    def value(results: Results) -> Value:
        return results.shapes[shape].time_ratio(method, to) if shape in results.shapes else None

    return Target(f"{SHAPES[shape].title}: {TITLES[method]} / {TITLES[to]}, time", high, value)


def _memory(shape: str, method: str, high: float, to: str = "plain") -> Target:
    def value(results: Results) -> Value:
        return results.shapes[shape].memory_ratio(method, to) if shape in results.shapes else None

    return Target(f"{SHAPES[shape].title}: {TITLES[method]} / {TITLES[to]}, memory", high, value)


def _layer(name: str, high: float) -> Target:
    def value(results: Results) -> Value:
        if name not in results.layers:
            return None
        times = results.layers[name]
        return spread([ours / stock for ours, stock in zip(times["masked"], times["stock"], strict=True)])

    return Target(f"masked {name} / stock layer, time", high, value)


def _growth(name: str) -> Target:
    return Target(f"exponent of {name}", 1.1, lambda results: exponents(results.growth).get(name), 0.9)


def _targets() -> Iterator[Target]:
    yield _time("smnist", "label", 1.6)
    yield _time("smnist", "label", 1.05, "r_drop")
    yield _memory("smnist", "label", 0.7, "r_drop")
    yield _time("smnist", "leading", 1.1, "r_drop")
    yield _memory("smnist", "leading", 0.7, "r_drop")
    yield _time("smnist", "published", 2.6)
    yield _time("ptb", "label", 1.9)
    yield _time("ptb_shared", "label", 1.5)
    yield _time("imdb", "label", 2.1)
    for shape in SHAPES:
        for method in ("label", "leading", "gradient"):
            yield _memory(shape, method, 1.15)
    for name, high in (
        ("LSTM, 784 x 100 x 100", 0.85),
        ("LSTM, 70 x 20 x 1150", 1.0),
        ("GRU, 784 x 100 x 100", 1.1),
        ("RNN, 784 x 100 x 100", 1.1),
    ):
        yield _layer(name, high)
    for name in ("time in T", "time in K", "memory in T"):
        yield _growth(name)


TARGETS = tuple(_targets())

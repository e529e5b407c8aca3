"""What was measured, as it is saved, and the ratios of it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import lightning
import torch


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """The quartiles of at least one value.

    >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
    Spread(low=2.0, middle=3.0, high=4.0)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, _, high = quantiles(values, method="inclusive")
    return Spread(low, median(values), high)


@dataclass
class ShapeResult:
    """What was measured at one shape.

    Attributes:
        sizes: time steps, batch, units and words.
        seconds: of each method's step, in each round.
        bytes: the growth of memory to the peak of a step.
        left_out: why a method, or its memory, is missing.
    """

    sizes: list[int]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    bytes: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def time_ratio(self, method: str, to: str) -> Spread | None:
        """Quartiles of the ratios within rounds."""
        if not {method, to} <= self.seconds.keys():
            return None
        pairs = zip(self.seconds[method], self.seconds[to], strict=True)
        return spread([one / other for one, other in pairs])

    def memory_ratio(self, method: str, to: str) -> float | None:
        """The growth of one method's memory divided by another's."""
        if not {method, to} <= self.bytes.keys():
            return None
        return self.bytes[method] / self.bytes[to]


@dataclass
class Results:
    """All that was measured.

    Attributes:
        environment: the machine and the versions.
        shapes: by name, see `ShapeResult`.
        layers: seconds of forward and backward, by layer and then ``stock`` and ``masked``.
        growth: what `growth.measured` found.
        formula: what `formula.measured` found.
    """

    environment: dict[str, Any]
    shapes: dict[str, ShapeResult] = field(default_factory=dict)
    layers: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    growth: dict[str, Any] = field(default_factory=dict)
    formula: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Results:
        """From what `as_dict` gave."""
        shapes = {name: ShapeResult(**each) for name, each in saved["shapes"].items()}
        return cls(**{**saved, "shapes": shapes})


def environment(clock: str, device: str) -> dict[str, Any]:
    """The machine and the versions that this process measures with."""
    return {
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "device": torch.cuda.get_device_name() if device != "cpu" else _processor(),
        "threads": torch.get_num_threads(),
        "clock": clock,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()

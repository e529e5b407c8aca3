"""Averaging written out on numbers and lists, independent of the package and of torch."""

from __future__ import annotations

from collections.abc import Sequence


def first_fired(losses: Sequence[float], nonmono: int) -> int | None:
    """The index of the first loss above the minimum of all before it but the last ``nonmono``, or None."""
    for index, loss in enumerate(losses):
        counted = [losses[other] for other in range(index) if other < index - nonmono]
        if counted and loss > min(counted):
            return index
    return None


def mean_of(weights: Sequence[Sequence[float]]) -> list[float]:
    """The mean of several vectors."""
    return [sum(column) / len(weights) for column in zip(*weights, strict=True)]


def moving_average(weights: Sequence[Sequence[float]], decay: float, warmup: bool = False) -> list[float]:
    """The exponential moving average of several vectors, which starts from the first."""
    average = list(weights[0])
    for t, vector in enumerate(weights[1:], start=2):  # the t-th update, from 1
        now = min(decay, (1 + t) / (10 + t)) if warmup else decay
        average = [now * old + (1 - now) * new for old, new in zip(average, vector, strict=True)]
    return average

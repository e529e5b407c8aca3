"""Schedules over epochs: how a regularizer's weight grows, and how a learning rate shrinks."""

from __future__ import annotations

import math


def sigmoid_rampup(epoch: float, length: float) -> float:
    """``exp(-5 (1 - epoch / length)^2)``, from about 0.007 at epoch 0 to 1 at ``length`` and after.

    Laine & Aila (2017), also the schedule of the weight in Park et al. (2019).

    Args:
        epoch: the epoch, from 0; fractions are allowed.
        length: the number of epochs until 1 is reached; 0 means from the start.

    Raises:
        ValueError: if ``epoch`` or ``length`` is negative.

    Example:
        >>> [round(sigmoid_rampup(epoch, 50), 4) for epoch in (0, 25, 50, 60)]
        [0.0067, 0.2865, 1.0, 1.0]
    """
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}.")
    if epoch < 0:
        raise ValueError(f"epoch must be at least 0, got {epoch}.")
    if epoch >= length:
        return 1.0
    return math.exp(-5 * (1 - epoch / length) ** 2)


def gaussian_rampdown(epoch: float, total: float, length: float) -> float:
    """1 until ``length`` epochs before the end, then ``exp(-(e / 2)^2 / length)`` with ``e`` epochs into the ramp.

    The learning rate of the published sequential MNIST runs, where ``length`` is 50 of 250 epochs (Park et al. 2019).

    Args:
        epoch: the epoch, from 0.
        total: the number of epochs of the run.
        length: the number of epochs that the ramp takes; 0 means none.

    Raises:
        ValueError: if an argument is negative.

    Example:
        >>> [round(gaussian_rampdown(epoch, 250, 50), 4) for epoch in (0, 200, 220, 250)]
        [1.0, 1.0, 0.1353, 0.0]
    """
    for name, value in (("epoch", epoch), ("total", total), ("length", length)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0, got {value}.")
    into = epoch - (total - length)
    return 1.0 if length == 0 or into <= 0 else math.exp(-((0.5 * into) ** 2) / length)

"""Schedules over epochs for regularizer weights and learning rates."""

from __future__ import annotations

import math

from lightning_advdrop._ranges import check_range


def sigmoid_rampup(epoch: float, length: float) -> float:
    """Grow from about 0.007 at epoch 0 to 1 at ``length`` and after, by ``exp(-5 (1 - epoch / length)^2)``.

    Source: Laine & Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017; the weight's schedule in Park
    et al. (2019).

    Args:
        epoch: the epoch, at least 0, not necessarily whole.
        length: the number of epochs until 1 is reached, at least 0; 0 for no ramp.

    Raises:
        ValueError: if an argument is negative.

    Example:
        >>> [round(sigmoid_rampup(epoch, 50), 4) for epoch in (0, 25, 50, 60)]
        [0.0067, 0.2865, 1.0, 1.0]
    """
    _check(epoch=epoch, length=length)
    if epoch >= length:
        return 1.0
    return math.exp(-5 * (1 - epoch / length) ** 2)


def gaussian_rampdown(epoch: float, total: float, length: float) -> float:
    """Stay at 1 until ``length`` epochs before the end, then fall by ``exp(-(e / 2)^2 / length)``, ``e`` epochs on.

    Source: the learning rate of the published sequential MNIST runs, with a ramp over the last 50 of 250 epochs (Park
    et al. 2019).

    Args:
        epoch: the epoch, at least 0, not necessarily whole.
        total: the number of epochs of the run, at least 0.
        length: the number of epochs that the ramp takes, at least 0; 0 for no ramp.

    Raises:
        ValueError: if an argument is negative.

    Example:
        >>> [round(gaussian_rampdown(epoch, 250, 50), 4) for epoch in (0, 200, 220, 250)]
        [1.0, 1.0, 0.1353, 0.0]
    """
    _check(epoch=epoch, total=total, length=length)
    # As Python's numbers, and multiplied: a square of float32, or by `**`, may overflow with an error.
    half = 0.5 * (float(epoch) - (float(total) - float(length)))
    return 1.0 if length == 0 or half <= 0 else math.exp(-(half * half) / length)


def _check(**arguments: float) -> None:
    check_range("at least 0", **arguments)

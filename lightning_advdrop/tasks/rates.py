"""Learning rates that depend on the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim import Optimizer


@contextmanager
def scaled_rate(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """A context in which an optimizer's learning rates are multiplied by a factor; schedulers see nothing of it.

    Args:
        optimizer: the optimizer.
        factor: the factor, above 0.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=30.0)
        >>> with scaled_rate(sgd, 0.5):
        ...     print(sgd.param_groups[0]["lr"])
        15.0
        >>> sgd.param_groups[0]["lr"]
        30.0
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

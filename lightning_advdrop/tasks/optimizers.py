"""Optimizers whose learning rate depends on the step or on the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


def decaying_adam(module: nn.Module, learning_rate: float, decay: float) -> dict[str, Any]:
    """Make Adam, whose rate is multiplied by ``decay`` after each step, as ``configure_optimizers`` returns it.

    Args:
        module: whose parameters are optimized.
        learning_rate: of the first step, above 0.
        decay: the factor, in (0, 1].

    Example:
        >>> sorted(decaying_adam(nn.Linear(1, 1), 1e-3, 0.9999))
        ['lr_scheduler', 'optimizer']
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@contextmanager
def scaled_rate(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """Multiply an optimizer's learning rates by a factor for one step; schedulers see nothing of it.

    Args:
        optimizer: the optimizer.
        factor: the factor, above 0.

    Example:
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

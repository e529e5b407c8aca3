"""What the text tasks share of their training: checks of arguments, and the optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def check_sizes(**sizes: int) -> None:
    """Raises a `ValueError` for a size below 1.

    Example:
        >>> check_sizes(hidden_size=0)
        Traceback (most recent call last):
        ...
        ValueError: hidden_size must be at least 1, got 0.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")


def check_training(dropout: float, learning_rate: float, decay: float, clip_norm: float | None) -> None:
    """Raises a `ValueError` for an argument of the same name outside what is allowed.

    Example:
        >>> check_training(dropout=0.5, learning_rate=1e-3, decay=0.9999, clip_norm=1.0)
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}.")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}.")
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay}.")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be above 0 or None, got {clip_norm}.")


def decaying_adam(module: nn.Module, learning_rate: float, decay: float) -> dict[str, Any]:
    """Adam whose rate is multiplied by ``decay`` after each step, as ``configure_optimizers`` returns it.

    Example:
        >>> sorted(decaying_adam(nn.Linear(1, 1), 1e-3, 0.9999))
        ['lr_scheduler', 'optimizer']
    """
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

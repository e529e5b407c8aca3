"""Find the loss in what a training step returns; predictions, labels and weights as for any loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_advdrop.regularizers.predictions import (
    Output,
    Target,
    parts_of,
    select_prediction,
    select_target,
    select_weight,
    type_of,
)

__all__ = ["Output", "Target", "add_to_loss", "select_prediction", "select_target", "select_weight"]


def add_to_loss(result: Any, penalty: Tensor) -> Any:
    """Add a penalty to the loss in what a training step returned.

    Args:
        result: a scalar tensor, or a mapping with one under ``loss``; not changed.
        penalty: a scalar tensor.

    Raises:
        ValueError: if there is no loss.

    Example:
        >>> import torch
        >>> add_to_loss({"loss": torch.tensor(1.0)}, torch.tensor(0.5))
        {'loss': tensor(1.5000)}
    """
    if isinstance(result, Tensor):
        return result + penalty
    if isinstance(result, Mapping) and isinstance(result.get("loss"), Tensor):
        return {**result, "loss": result["loss"] + penalty}
    raise ValueError(
        f"training_step must return a loss tensor, a mapping with the key 'loss', or None, got {type_of(result)}"
        f"{parts_of(result)}."
    )

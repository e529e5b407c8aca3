"""Weighted means over examples and time steps, in float32 or float64."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_advdrop._deprecation import renamed_argument


def as_float(tensor: Tensor) -> Tensor:
    """Convert to float32, unless the tensor is of that type or float64."""
    return tensor if tensor.dtype in {torch.float32, torch.float64} else tensor.float()


def broadcast_weight(sample_weight: Tensor, shape: torch.Size) -> Tensor:
    """Broadcast weights to the shape of what they weigh; a `ValueError` names both shapes if they don't."""
    try:
        return torch.broadcast_to(sample_weight, shape)
    except RuntimeError:
        raise ValueError(
            f"sample_weight must broadcast to the examples' shape {tuple(shape)}, got {tuple(sample_weight.shape)}."
        ) from None


@renamed_argument("weight", "sample_weight")
def weighted_mean(values: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute the weighted mean of ``values``; 0 if all weights are 0.

    Args:
        values: one number for each example (and time step), any shape.
        sample_weight: weights that broadcast to the shape of ``values``; None weighs all alike. A value of weight 0 is
            ignored, even NaN.

    Raises:
        ValueError: if ``sample_weight`` does not broadcast to the shape of ``values``.

    Example:
        >>> weighted_mean(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([1.0, 1.0, 0.0])).item()
        2.0
    """
    if sample_weight is None:
        return values.mean()
    sample_weight = broadcast_weight(sample_weight, values.shape).to(values.dtype)
    weighted = torch.where(sample_weight == 0, 0, values * sample_weight)  # padding may hold anything, even NaN
    return weighted.sum() / sample_weight.sum().clamp_min(torch.finfo(values.dtype).tiny)

"""Torch's recurrent cells under masks, for models that loop over the steps themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CELL_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    torch.lstm_cell,
    torch.gru_cell,
    torch.rnn_tanh_cell,
    torch.rnn_relu_cell,
)
"""The functions that `masked_cell` takes."""


def masked_cell(function: Callable[..., Any], args: Sequence[Any], mask: Tensor) -> Any:
    """Run one step of a recurrent cell with ``h * mask`` in place of ``h`` where it enters the gates.

    The hidden state that a GRU's update gate carries over is not masked, and neither is the step's output.

    Source: Gal & Ghahramani (2016); Park et al. (2019).

    Args:
        function: one of `CELL_FUNCTIONS`.
        args: its positional arguments, ``(input, hx, weight_ih, weight_hh, bias_ih, bias_hh)``: input ``(B, in)``, and
            ``hx`` a hidden state ``(B, H)``, for an LSTM with a cell state ``(h, c)``.
        mask: ``(B, H)``, any real numbers, differentiable.

    Returns:
        The new hidden state ``(B, H)``, for an LSTM with the new cell state.

    Raises:
        ValueError: if ``function`` is not one of `CELL_FUNCTIONS`, or ``mask`` has another shape.

    Example:
        >>> cell, x, h = torch.nn.GRUCell(2, 3), torch.ones(4, 2), torch.ones(4, 3)
        >>> args = (x, h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        >>> torch.allclose(masked_cell(torch.gru_cell, args, torch.ones(4, 3)), cell(x, h), atol=1e-6)
        True
    """
    if function not in CELL_FUNCTIONS:
        allowed = ", ".join(f"torch.{known.__name__}" for known in CELL_FUNCTIONS)
        raise ValueError(f"function must be one of {allowed}, got {function!r}.")
    x, hx, *weights = args
    h, *cell = (hx,) if isinstance(hx, Tensor) else hx
    if mask.shape != h.shape:
        raise ValueError(f"mask must have the shape {tuple(h.shape)} of the hidden state, got {tuple(mask.shape)}.")
    if function is torch.gru_cell:
        return _gru_step(x, h, h * mask, *weights)
    return function(x, (h * mask, *cell) if cell else h * mask, *weights)


def _gru_step(
    x: Tensor,
    h: Tensor,
    masked_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
) -> Tensor:
    # The stock cell uses one hidden state both for the products and to carry over; here they differ.
    r, z, n = F.linear(x, weight_ih, bias_ih).chunk(3, 1)
    product_r, product_z, product_n = F.linear(masked_h, weight_hh, bias_hh).chunk(3, 1)
    z = torch.sigmoid(z + product_z)
    n = torch.tanh(n + torch.sigmoid(r + product_r) * product_n)
    return n + z * (h - n)

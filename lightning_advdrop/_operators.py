"""Operators of torch's that no function of its Python interface calls alone: their derivatives and fused cells."""

from __future__ import annotations

import torch
from torch import Tensor

# Derivatives of activations, in one kernel each. Looking an operator up takes as long as a call with few elements.

_SIGMOID_BACKWARD = torch.ops.aten.sigmoid_backward.grad_input
_TANH_BACKWARD = torch.ops.aten.tanh_backward.grad_input
_THRESHOLD_BACKWARD = torch.ops.aten.threshold_backward.grad_input


def sigmoid_gradient(grad: Tensor, result: Tensor, out: Tensor) -> Tensor:
    """Compute ``grad * result * (1 - result)`` into ``out``, which may be ``grad``.

    Example:
        >>> sigmoid_gradient(torch.ones(1), torch.full((1,), 0.5), torch.empty(1))
        tensor([0.2500])
    """
    return _SIGMOID_BACKWARD(grad, result, grad_input=out)  # type: ignore[no-any-return]


def tanh_gradient(grad: Tensor, result: Tensor, out: Tensor) -> Tensor:
    """Compute ``grad * (1 - result ** 2)`` into ``out``, which may be ``grad``.

    Example:
        >>> tanh_gradient(torch.ones(1), torch.full((1,), 0.5), torch.empty(1))
        tensor([0.7500])
    """
    return _TANH_BACKWARD(grad, result, grad_input=out)  # type: ignore[no-any-return]


def relu_gradient(grad: Tensor, result: Tensor, out: Tensor) -> Tensor:
    """Compute ``grad * (result > 0)`` into ``out``, which may be ``grad``.

    Example:
        >>> relu_gradient(torch.ones(2), torch.tensor([0.0, 0.5]), torch.empty(2))
        tensor([0., 1.])
    """
    return _THRESHOLD_BACKWARD(grad, result, 0, grad_input=out)  # type: ignore[no-any-return]


# Cells of which one CUDA kernel computes all that comes after the products. Torch's cells and layers are made of them.

_CELLS = (
    "_thnn_fused_lstm_cell",
    "_thnn_fused_lstm_cell_backward_impl",
    "_thnn_fused_gru_cell",
    "_thnn_fused_gru_cell_backward",
)


def has_fused_cells(device: torch.device) -> bool:
    """Tell whether a device has the fused cells below.

    Example:
        >>> has_fused_cells(torch.device("cpu"))
        False
    """
    return device.type == "cuda" and all(hasattr(torch.ops.aten, name) for name in _CELLS)


def lstm_cell(projected: Tensor, product: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute one step of an LSTM from the sum of two products.

    Args:
        projected: the first, ``(B, 4H)``, with gates in the order input, forget, cell, output.
        product: the second, ``(B, 4H)``.
        c: the cell state, ``(B, H)``.

    Returns:
        The new hidden and cell state, ``(B, H)``, and the gates after their activation, ``(B, 4H)``.
    """
    return torch.ops.aten._thnn_fused_lstm_cell(projected, product, c)  # type: ignore[no-any-return]


def lstm_cell_backward(
    grad_h: Tensor, grad_c: Tensor, c_prev: Tensor, c: Tensor, gates: Tensor
) -> tuple[Tensor, Tensor]:
    """Go back through `lstm_cell`.

    Args:
        grad_h: the gradient of the new hidden state, ``(B, H)``.
        grad_c: that of the new cell state.
        c_prev: the cell state before.
        c: the new cell state.
        gates: the gates that `lstm_cell` returned.

    Returns:
        The gradients of either product, ``(B, 4H)``, and of the cell state before, ``(B, H)``.
    """
    backward = torch.ops.aten._thnn_fused_lstm_cell_backward_impl
    grad_product, grad_c_prev, _ = backward(grad_h, grad_c, c_prev, c, gates, False)
    return grad_product, grad_c_prev


def gru_cell(projected: Tensor, product: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Compute one step of a GRU.

    Args:
        projected: the product with the input, ``(B, 3H)``, with gates in the order reset, update, new.
        product: the product with the hidden state, ``(B, 3H)``.
        h: the hidden state that is carried over, ``(B, H)``.

    Returns:
        The new hidden state, ``(B, H)``, and what `gru_cell_backward` needs, ``(B, 5H)``.
    """
    return torch.ops.aten._thnn_fused_gru_cell(projected, product, h)  # type: ignore[no-any-return]


def gru_cell_backward(grad_h: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Go back through `gru_cell`.

    Args:
        grad_h: the gradient of the new hidden state, ``(B, H)``.
        kept: what `gru_cell` returned, ``(B, 5H)``.

    Returns:
        The gradients of the two products, ``(B, 3H)``, and of the state that is carried over, ``(B, H)``.
    """
    projected, product, carried, *_ = torch.ops.aten._thnn_fused_gru_cell_backward(grad_h, kept, False)
    return projected, product, carried

"""Operators of torch's: derivatives of activations, and fused cells against the same written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_advdrop import _operators
from tests.helpers import fused_cells

B, H = 3, 5


@pytest.mark.parametrize(
    ("activation", "gradient"),
    [
        (torch.sigmoid, _operators.sigmoid_gradient),
        (torch.tanh, _operators.tanh_gradient),
        (torch.relu, _operators.relu_gradient),
    ],
)
@pytest.mark.parametrize("in_place", [False, True])
def test_derivatives_are_those_of_autograd(
    activation: Callable[[Tensor], Tensor], gradient: Callable[[Tensor, Tensor, Tensor], Tensor], in_place: bool
) -> None:
    x = torch.randn(4, 6, dtype=torch.float64).requires_grad_()
    result, grad = activation(x), torch.randn(4, 6, dtype=torch.float64)
    (expected,) = torch.autograd.grad(result, x, grad)
    wide = torch.zeros(4, 9, dtype=torch.float64)  # a part of other rows, as in the kernels
    out = wide[:, 1:7]
    if in_place:
        out.copy_(grad)
    assert gradient(out if in_place else grad, result.detach(), out) is out
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-15)
    assert not wide[:, 0].any()
    assert not wide[:, 7:].any()


def randoms(*widths: int, device: str = "cpu") -> list[Tensor]:
    return [torch.randn(B, width, dtype=torch.float64).to(device) for width in widths]


def test_the_lstm_cell_written_out_is_torchs() -> None:
    projected, product, c, grad_h, grad_c = randoms(4 * H, 4 * H, H, H, H)
    h, new_c, gates = fused_cells.lstm_cell(projected, product, c)
    identity = torch.eye(4 * H, dtype=torch.float64)
    expected = torch.lstm_cell(projected + product, (torch.zeros_like(c), c), identity, identity[:, :H])
    torch.testing.assert_close((h, new_c), expected, rtol=1e-12, atol=1e-12)
    backward = torch.ops.aten._thnn_differentiable_lstm_cell_backward
    grads = backward(grad_h, grad_c, projected, product, None, None, c, new_c)
    found = fused_cells.lstm_cell_backward(grad_h, grad_c, c, new_c, gates)
    torch.testing.assert_close((found[0], found[0], found[1]), (grads[0], grads[1], grads[2]), rtol=1e-12, atol=1e-12)


def test_the_gru_cell_written_out_is_torchs() -> None:
    projected, product, h, grad_h = randoms(3 * H, 3 * H, H, H)
    new_h, kept = fused_cells.gru_cell(projected, product, h)
    weight = torch.linalg.lstsq(h, product).solution.t()  # h @ weight.T is the product, since H > B
    identity = torch.eye(3 * H, dtype=torch.float64)
    torch.testing.assert_close(new_h, torch.gru_cell(projected, h, identity, weight), rtol=1e-9, atol=1e-9)
    grads = torch.ops.aten._thnn_differentiable_gru_cell_backward(grad_h, projected, product, h, None, None)
    found = fused_cells.gru_cell_backward(grad_h, kept)
    torch.testing.assert_close(found, tuple(grads[:3]), rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
def test_the_fused_cells_on_cuda_are_the_ones_written_out() -> None:
    assert _operators.has_fused_cells(torch.device("cuda"))
    projected, product, c, grad_h, grad_c = randoms(4 * H, 4 * H, H, H, H, device="cuda")
    new = fused_cells.lstm_cell(projected, product, c)
    torch.testing.assert_close(_operators.lstm_cell(projected, product, c), new, rtol=1e-10, atol=1e-10)
    given = grad_h, grad_c, c, new[1], new[2]
    expected = fused_cells.lstm_cell_backward(*given)
    torch.testing.assert_close(_operators.lstm_cell_backward(*given), expected, rtol=1e-10, atol=1e-10)
    projected, product, h, grad_h = randoms(3 * H, 3 * H, H, H, device="cuda")
    found, kept = _operators.gru_cell(projected, product, h)
    torch.testing.assert_close(found, fused_cells.gru_cell(projected, product, h)[0], rtol=1e-10, atol=1e-10)
    expected_gru = fused_cells.gru_cell_backward(grad_h, fused_cells.gru_cell(projected, product, h)[1])
    torch.testing.assert_close(_operators.gru_cell_backward(grad_h, kept), expected_gru, rtol=1e-10, atol=1e-10)

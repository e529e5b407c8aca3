"""Masked cells against the naive references."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.nn import CELL_FUNCTIONS, masked_cell
from tests.helpers.messages import refused
from tests.helpers.reference_recurrent import reference_step

BATCH, FEATURES, UNITS = 3, 2, 4
CELLS = dict(zip(("lstm", "gru", "tanh", "relu"), CELL_FUNCTIONS, strict=True))
each_kind = pytest.mark.parametrize("kind", CELLS)


def cell_of(kind: str, bias: bool) -> Any:
    if kind in {"tanh", "relu"}:
        return nn.RNNCell(FEATURES, UNITS, bias, kind, dtype=torch.float64)
    return {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind](FEATURES, UNITS, bias, dtype=torch.float64)


def arguments(kind: str, cell: Any) -> tuple[Any, ...]:
    h, c = (torch.randn(BATCH, UNITS, dtype=torch.float64, requires_grad=True) for _ in range(2))
    x = torch.randn(BATCH, FEATURES, dtype=torch.float64, requires_grad=True)
    return x, (h, c) if kind == "lstm" else h, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh


def tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


@each_kind
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", ["ones", "binary", "real"])
def test_a_masked_cell_gives_the_naive_reference(kind: str, bias: bool, mask: str) -> None:
    cell = cell_of(kind, bias)
    args = arguments(kind, cell)
    made = {"ones": torch.ones, "binary": lambda *shape: torch.randint(2, shape), "real": torch.randn}[mask]
    drawn = made(BATCH, UNITS).double().requires_grad_()  # type: ignore[operator]
    found = tensors(masked_cell(CELLS[kind], args, drawn))
    weights, states = dict(cell.named_parameters()), tensors(args[1])
    rows = [reference_step(kind, args[0][b], tuple(s[b] for s in states), drawn[b], weights) for b in range(BATCH)]
    expected = tuple(torch.stack(parts) for parts in zip(*rows, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    leaves = (args[0], *states, drawn, *cell.parameters())
    grads = [torch.autograd.grad([part.sin().sum() for part in parts], leaves) for parts in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


@each_kind
def test_a_mask_of_ones_gives_the_stock_cell(kind: str) -> None:
    cell = cell_of(kind, True)
    args = arguments(kind, cell)
    found = masked_cell(CELLS[kind], args, torch.ones(BATCH, UNITS))
    torch.testing.assert_close(found, cell(*args[:2]), rtol=1e-10, atol=1e-10)


def test_another_function_is_refused() -> None:
    allowed = "torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell"
    with refused("function", allowed, "method lstm"):
        masked_cell(torch.lstm, (), torch.ones(1, 1))


@each_kind
def test_a_mask_of_another_shape_is_refused(kind: str) -> None:
    with refused("mask", (3, 4), (1, 4)):
        masked_cell(CELLS[kind], arguments(kind, cell_of(kind, True)), torch.ones(1, UNITS))

"""Kernels of masked LSTM and GRU layers for CUDA, where one fused kernel computes a step after its products.

On a GPU a step costs about as much as the launches of its kernels. Forward these are three, for the mask, the product
and the cell, and five back, where the kernels for other devices launch about ten.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_advdrop import _operators
from lightning_advdrop.nn.layer import LayerInputs, LayerKernel, States
from lightning_advdrop.nn.packed import Block, first_rows, previous_states


class FusedLSTMKernel(LayerKernel):
    """The kernel of an LSTM without projection, with rows as those of `LSTMKernel`."""

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        _, self.cells, self.gates = rows
        self.c_prev = previous_states(self.cells, inputs.states[1], self.sizes)

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """Run the recurrence."""
        h, c = inputs.states
        (projected,) = inputs.new_rows(len(inputs.weights.weight_hh))
        recurrent = inputs.recurrent_product()
        bias_ih, bias_hh = inputs.weights.biases
        steps = []
        for row, m in inputs.steps(bias_ih + bias_hh, projected):
            h, c, gates = _operators.lstm_cell(row, recurrent(h[: len(row)] * m), c[: len(row)])
            steps.append((h, c, gates))
        return [torch.cat(rows) for rows in zip(*steps, strict=True)]

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Return the gradient of the gates before their activation, twice."""
        grad_h, grad_c = grad_states
        grads: list[Tensor] = []
        for t, dy, c, gates in self.steps_back(block, incoming, self.cells[block.rows], self.gates[block.rows]):
            dh, dc = first_rows(grad_h, len(dy)), first_rows(grad_c, len(dy))
            grad_product, grad_c_prev = _operators.lstm_cell_backward(dh.add_(dy), dc, self.c_prev[t], c, gates)
            dc.copy_(grad_c_prev)
            torch.mul(self.through_product(t, grad_product), self.masks[t], out=dh)
            grads.append(grad_product)
        flat = torch.cat(grads[::-1])
        return flat, flat


class FusedGRUKernel(LayerKernel):
    """The kernel of a GRU. Its rows are hidden states, ``(N, H)``, and what the cell keeps, ``(N, 5H)``."""

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        _, self.kept = rows

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """Run the recurrence."""
        (h,) = inputs.states
        (projected,) = inputs.new_rows(len(inputs.weights.weight_hh))
        weight_hh = inputs.weights.weight_hh.t()
        bias_ih, bias_hh = inputs.weights.biases
        steps = []
        for row, m in inputs.steps(bias_ih, projected):
            h = h[: len(row)]
            # The reset gate multiplies the bias as well, which therefore can't be a part of the projected input.
            h, kept = _operators.gru_cell(row, torch.addmm(bias_hh, h * m, weight_hh), h)
            steps.append((h, kept))
        return [torch.cat(rows) for rows in zip(*steps, strict=True)]

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Return the gradients of the two products, which differ in the new gate."""
        (grad_h,) = grad_states
        grads: list[tuple[Tensor, Tensor]] = []
        for t, dy, kept in self.steps_back(block, incoming, self.kept[block.rows]):
            dh = first_rows(grad_h, len(dy))
            grad_projected, grad_product, carried = _operators.gru_cell_backward(dh.add_(dy), kept)
            torch.addcmul(carried, self.through_product(t, grad_product), self.masks[t], out=dh)
            grads.append((grad_projected, grad_product))
        projected, product = (torch.cat(steps) for steps in zip(*grads[::-1], strict=True))
        return projected, product

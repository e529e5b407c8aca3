"""The kernel of a masked LSTM layer, with gates in the order input, forget, cell, output, as in `torch.nn.LSTM`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_advdrop import _operators
from lightning_advdrop.nn.fused_kernels import FusedLSTMKernel
from lightning_advdrop.nn.layer import LayerInputs, LayerKernel, LayerWeights, States, run_layer
from lightning_advdrop.nn.matmul import RepeatedProduct, WeightGradient
from lightning_advdrop.nn.packed import Block, first_rows, previous_states


class LSTMKernel(LayerKernel):
    """The kernel of an LSTM. Its rows are hidden states ``(N, P)``, cell states ``(N, H)`` and gates ``(N, 4H)``."""

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        _, self.cells, gates = rows
        self.units = self.cells.shape[1]
        self.gates = gates.view(len(gates), 4, self.units)
        self.c_prev = previous_states(self.cells, inputs.states[1], self.sizes)
        weight_hr = inputs.weights.weight_hr
        self.project = None if weight_hr is None else RepeatedProduct(weight_hr.t(), self.sizes[0], len(self.sizes))
        self._grad_hr = WeightGradient(self.need_hr)
        self._block_rows = self.block_rows(4 * self.units, self.units, self.units)

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """Run the recurrence."""
        sizes, weight_hr = inputs.batch_sizes, inputs.weights.weight_hr
        (h, c), width = inputs.states, inputs.weights.weight_hh.shape[1]
        units = c.shape[1]
        hidden, cells, gates = inputs.new_rows(width, units, 4 * units)
        recurrent = inputs.recurrent_product()
        project = None if weight_hr is None else RepeatedProduct(weight_hr, sizes[0], len(sizes))
        bias_ih, bias_hh = inputs.weights.biases
        masked, minus_one = torch.empty_like(h), h.new_full((), -1)
        each_gate = gates.view(-1, 4, units).unbind(1)
        for all_gates, m, i, f, g, o, h_t, c_t in inputs.steps(bias_ih + bias_hh, gates, *each_gate, hidden, cells):
            if len(h) != len(h_t):
                h, c, masked = h[: len(h_t)], c[: len(h_t)], masked[: len(h_t)]
            recurrent.add_to(all_gates, torch.mul(h, m, out=masked))
            g.mul_(2)  # tanh(z) = 2 sigmoid(2 z) - 1, so that one sigmoid computes all gates
            all_gates.sigmoid_()
            torch.add(minus_one, g, alpha=2, out=g)
            torch.mul(f, c, out=c_t).addcmul_(i, g)
            if project is None:
                torch.tanh(c_t, out=h_t).mul_(o)
            else:
                h_t.copy_(project(c_t.tanh().mul_(o)))
            h, c = h_t, c_t
        return hidden, cells, gates

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Return the gradient of the gates before their activation, twice."""
        grad_h, grad_c = grad_states
        grad_c_of_gates = grad_c.unsqueeze(1)
        gates = self.gates[block.rows]
        flat, tanh_c, through_cell = (rows[: len(gates)] for rows in self._block_rows)
        grads = flat.view_as(gates)
        self._gate_factors(gates, torch.tanh(self.cells[block.rows], out=tanh_c), grads)
        _operators.tanh_gradient(gates[:, 3], tanh_c, out=through_cell)  # of o tanh(c) with respect to c
        keep = grad_h.new_empty(len(gates), grad_h.shape[1]) if self.need_hr else None
        rows = through_cell, gates[:, 1], grads[:, 1], grads[:, :3], grads[:, 3], flat
        for t, dy, kept, through, f, d_f, d_ifg, d_o, grad in self.steps_back(block, incoming, keep, *rows):
            dh, dc = first_rows(grad_h, len(dy)), first_rows(grad_c, len(dy))
            dh.add_(dy)
            if kept is not None:
                kept.copy_(dh)
            d_output = dh if self.project is None else self.project(dh)  # the gradient of o tanh(c)
            dc.addcmul_(d_output, through)
            _operators.sigmoid_gradient(self.c_prev[t], f, d_f)
            d_ifg.mul_(first_rows(grad_c_of_gates, len(dy)))
            d_o.mul_(d_output)
            dc.mul_(f)
            torch.mul(self.through_product(t, grad), self.masks[t], out=dh)
        if keep is not None:
            self._grad_hr.add(keep, lambda: tanh_c.mul_(gates[:, 3]))
        return flat, flat

    @staticmethod
    def _gate_factors(gates: Tensor, tanh_c: Tensor, out: Tensor) -> None:
        """Write what the gradients of ``c`` and of ``o tanh(c)`` are multiplied by, but for the forget gate.

        Computed for all steps of a block, this needs a fraction of the calls.
        """
        i, _, g, o = gates.unbind(1)
        _operators.sigmoid_gradient(g, i, out[:, 0])
        _operators.tanh_gradient(i, g, out[:, 2])
        _operators.sigmoid_gradient(tanh_c, o, out[:, 3])

    @property
    def grad_hr(self) -> Tensor | None:
        """The gradient of ``weight_hr``, ``(P, H)``."""
        return self._grad_hr.value


def masked_lstm_layer(
    x: Tensor, batch_sizes: Sequence[int], state: States, mask: Tensor, weights: LayerWeights
) -> tuple[Tensor, States]:
    """Run one LSTM layer in one direction, with ``h[t-1] * mask`` in place of ``h[t-1]`` in the gates.

    The step's output and the cell state are not masked. With ``weights.weight_hr``, ``h`` is the projected hidden
    state, of width ``P``; otherwise ``P = H``. Parameter gradients are summed over blocks of steps, so that the
    gradients of the gates are never held for the whole sequence.

    Source: Gal & Ghahramani (2016) for a fixed mask; Park et al. (2019), section "Adversarial dropout for recurrent
    neural networks".

    Args:
        x: the input rows, packed, ``(N, in)``.
        batch_sizes: the number of rows of each step, ``T`` numbers that never increase and sum to ``N``.
        state: the initial hidden state ``(B, P)`` and cell state ``(B, H)``.
        mask: ``(B, P)``, the same at every step, or ``(T, B, P)``; any real numbers, differentiable.
        weights: the layer's parameters.

    Returns:
        The hidden states, ``(N, P)``, and the hidden and cell state at each sequence's end, ``(B, P)`` and ``(B, H)``.

    Example:
        >>> layer = torch.nn.LSTM(4, 3)
        >>> weights = LayerWeights(*layer.all_weights[0])
        >>> x, zeros = torch.randn(5, 2, 4), torch.zeros(2, 3)
        >>> output, _ = masked_lstm_layer(x.view(10, 4), [2] * 5, (zeros, zeros), torch.ones(2, 3), weights)
        >>> torch.allclose(output.view(5, 2, 3), layer(x)[0], atol=1e-6)
        True
    """
    fused = weights.weight_hr is None and _operators.has_fused_cells(x.device)
    kernel = FusedLSTMKernel if fused else LSTMKernel
    return run_layer(masked_lstm_layer, kernel, x, batch_sizes, state, mask, weights)

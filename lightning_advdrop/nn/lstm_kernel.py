"""The kernel of a masked LSTM layer, with gates in the order input, forget, cell, output, as in `torch.nn.LSTM`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_advdrop import _torch
from lightning_advdrop.nn.layer import LayerInputs, LayerKernel, LayerWeights, States, run_layer
from lightning_advdrop.nn.matmul import RepeatedProduct, WeightGradient
from lightning_advdrop.nn.packed import Block, previous_states, split_steps


class LSTMKernel(LayerKernel):
    """The kernel of an LSTM. Its rows are hidden states ``(N, P)``, cell states ``(N, H)`` and sigmoids ``(N, 4H)``."""

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        _, self.cells, sigmoids = rows
        self.units = self.cells.shape[1]
        self.sigmoids = sigmoids.view(len(sigmoids), 4, self.units)
        self.f = split_steps(self.sigmoids[:, 1], self.sizes)
        self.c_prev = previous_states(self.cells, inputs.states[1], self.sizes)
        weight_hr = inputs.weights.weight_hr
        self.project = None if weight_hr is None else RepeatedProduct(weight_hr.t(), self.sizes[0], len(self.sizes))
        self._minus_one = self.cells.new_tensor(-1)
        self._grad_hr = WeightGradient(self.need_hr)
        self._block = self.block_rows(4 * self.units, 4 * self.units, self.units, self.units)

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """Run the recurrence."""
        sizes, weight_hr = inputs.batch_sizes, inputs.weights.weight_hr
        (h, c), width = inputs.states, inputs.weights.weight_hh.shape[1]
        units = c.shape[1]
        hidden, cells, sigmoids = inputs.new_rows(width, units, 4 * units)
        recurrent = inputs.recurrent_product()
        project = None if weight_hr is None else RepeatedProduct(weight_hr, sizes[0], len(sizes))
        bias_ih, bias_hh = inputs.weights.biases
        each_gate = sigmoids.view(-1, 4, units).unbind(1)
        masked = torch.empty_like(h)
        steps = inputs.steps(bias_ih + bias_hh, sigmoids, *each_gate, hidden, cells)
        for gates, m, i, f, s, o, h_t, c_t in steps:
            if len(h) != len(h_t):
                h, c, masked = h[: len(h_t)], c[: len(h_t)], masked[: len(h_t)]
            recurrent.add_to(gates, torch.mul(h, m, out=masked))
            s.mul_(2)  # tanh(z) = 2 sigmoid(2 z) - 1, so that one sigmoid computes all gates
            gates.sigmoid_()
            torch.mul(f, c, out=c_t).sub_(i).addcmul_(i, s, value=2)  # f c + i (2 s - 1)
            if project is None:
                torch.tanh(c_t, out=h_t).mul_(o)
            else:
                h_t.copy_(project(c_t.tanh().mul_(o)))
            h, c = h_t, c_t
        return hidden, cells, sigmoids

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Return the gradient of the gates before their activation, twice."""
        grad_h, grad_c = grad_states
        per_cell, per_output, through_cell = self._slopes(block)
        flat = self._block[1][: len(per_cell)]
        grad_gates = flat.view_as(per_cell)
        keep = grad_h.new_empty(len(per_cell), grad_h.shape[1]) if self.need_hr else None
        slopes, grads = (per_cell[:, :3], per_output, through_cell), (flat, grad_gates[:, :3], grad_gates[:, 3])
        steps = self.steps_back(block, incoming, keep, *slopes, *grads)
        for t, dy, kept, slope_ifg, slope_o, slope_c, grad_all, grad_ifg, grad_o in steps:
            dh, dc = grad_h[: len(dy)], grad_c[: len(dy)]
            dh.add_(dy)
            if kept is not None:
                kept.copy_(dh)
            d_output = dh if self.project is None else self.project(dh)
            dc.addcmul_(d_output, slope_c)
            torch.mul(slope_ifg, dc.unsqueeze(1), out=grad_ifg)
            torch.mul(slope_o, d_output, out=grad_o)
            dc.mul_(self.f[t])
            torch.mul(self.through_product(t, grad_all), self.masks[t], out=dh)
        if keep is not None:
            rows = block.rows
            self._grad_hr.add(keep, lambda: self.cells[rows].tanh().mul_(self.sigmoids[rows, 3]))
        return flat, flat

    @property
    def grad_hr(self) -> Tensor | None:
        """The gradient of ``weight_hr``, ``(P, H)``."""
        return self._grad_hr.value

    def _slopes(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return the derivatives that don't depend on gradients, for all ``n`` rows of a block.

        Returns:
            The derivatives of the cell state with respect to the first three gates, in ``(n, 4, H)``, and those of ``o
            tanh(c)`` with respect to the output gate, ``(n, H)``, and the cell state, ``(n, H)``.
        """
        sigmoids = self.sigmoids[block.rows]
        i, _, s, o = sigmoids.unbind(1)
        flat, _, tanh_c, through_cell = (rows[: len(i)] for rows in self._block)
        torch.tanh(self.cells[block.rows], out=tanh_c)
        slopes = flat.view_as(sigmoids)
        # What each gate is multiplied by, then the derivative of the sigmoid. tanh(z) = 2 sigmoid(2 z) - 1.
        torch.add(self._minus_one, s, alpha=2, out=slopes[:, 0])
        sizes = self.sizes[block.steps]
        for slope, c in zip(split_steps(slopes[:, 1], sizes), self.c_prev[block.steps], strict=True):
            slope.copy_(c)
        torch.mul(i, 4, out=slopes[:, 2])
        slopes[:, 3] = tanh_c
        _torch.sigmoid_gradient(slopes, sigmoids, out=slopes)
        return slopes, slopes[:, 3], _torch.tanh_gradient(o, tanh_c, out=through_cell)


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
    return run_layer(masked_lstm_layer, LSTMKernel, x, batch_sizes, state, mask, weights)

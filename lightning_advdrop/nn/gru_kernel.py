"""The kernel of a masked GRU layer, with gates in the order reset, update, new, as in `torch.nn.GRU`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_advdrop import _operators
from lightning_advdrop.nn.fused_kernels import FusedGRUKernel
from lightning_advdrop.nn.layer import LayerInputs, LayerKernel, LayerWeights, States, run_layer
from lightning_advdrop.nn.packed import Block, first_rows, split_steps


class GRUKernel(LayerKernel):
    """The kernel of a GRU. Its rows are hidden states, ``(N, H)``, gates, ``(N, 3H)``, and the new gate's products.

    The reset gate multiplies the new gate's product with ``h``, bias included, before the projected input is added. The
    gradients of projected input and product therefore differ.
    """

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        _, gates, self.products = rows
        self.units = self.products.shape[1]
        self.gates = gates.view(len(gates), 3, self.units)
        self._block = self.block_rows(4 * self.units, 4 * self.units)
        self.z = split_steps(self.gates[:, 1], self.sizes)

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """Run the recurrence."""
        (h,) = inputs.states
        units = h.shape[1]
        hidden, gates, products = inputs.new_rows(units, 3 * units, units)
        recurrent = inputs.recurrent_product()
        bias_ih, bias_hh = inputs.weights.biases
        bias = bias_ih.clone()
        bias[: 2 * units] += bias_hh[: 2 * units]
        bias_n = bias_hh[2 * units :]
        masked, product = torch.empty_like(h), h.new_empty(len(h), 3 * units)
        steps = inputs.steps(bias, gates, *gates.view(-1, 3, units).unbind(1), products, hidden)
        for all_gates, m, r, z, n, product_n, h_t in steps:
            if len(h) != len(h_t):
                h, masked, product = h[: len(h_t)], masked[: len(h_t)], product[: len(h_t)]
            product = recurrent(torch.mul(h, m, out=masked), out=product)
            all_gates[:, : 2 * units].add_(product[:, : 2 * units]).sigmoid_()
            torch.add(product[:, 2 * units :], bias_n, out=product_n)
            n.addcmul_(r, product_n).tanh_()
            h = torch.lerp(n, h, z, out=h_t)  # (1 - z) n + z h: what is carried over is not masked
        return hidden, gates, products

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Return the gradients of the gates before their activation, the new gate's times ``r`` for the product."""
        (grad_h,) = grad_states
        slopes = self._slopes(block)
        grads = self._block[1][: len(slopes)].view_as(slopes)
        product = grads.view(-1, 4 * self.units)[:, : 3 * self.units]
        for t, dy, slope, grad, grad_product in self.steps_back(block, incoming, slopes, grads, product):
            dh = first_rows(grad_h, len(dy))
            dh.add_(dy)
            torch.mul(slope, dh.unsqueeze(1), out=grad)
            dh.mul_(self.z[t]).addcmul_(self.through_product(t, grad_product), self.masks[t])
        return torch.cat((grads[:, :2], grads[:, 3:]), 1).flatten(1), product

    def _slopes(self, block: Block) -> Tensor:
        """Return the derivatives of the hidden state for all ``n`` rows of a block, ``(n, 4, H)``.

        They are those with respect to reset gate, update gate, the new gate's product, and its projected input, before
        their activation.
        """
        gates = self.gates[block.rows]
        r, z, n = gates.unbind(1)
        slopes = self._block[0][: len(gates)].view(len(gates), 4, self.units)
        reset, update, product, projected = slopes.unbind(1)
        torch.sub(1, z, out=product)
        _operators.tanh_gradient(product, n, out=projected)  # (1 - z) (1 - n^2)
        torch.mul(projected, r, out=product)
        torch.mul(projected, self.products[block.rows], out=reset)
        sizes = self.sizes[block.steps]
        steps = zip(self.h_prev[block.steps], split_steps(n, sizes), split_steps(update, sizes), strict=True)
        for h_t, n_t, slope in steps:
            torch.sub(h_t, n_t, out=slope)
        _operators.sigmoid_gradient(slopes[:, :2], gates[:, :2], out=slopes[:, :2])
        return slopes


def masked_gru_layer(
    x: Tensor, batch_sizes: Sequence[int], state: States, mask: Tensor, weights: LayerWeights
) -> tuple[Tensor, States]:
    """Run one GRU layer in one direction, with ``h[t-1] * mask`` in the products of the gates.

    The state that the update gate carries over, ``z * h[t-1]``, is not masked, and neither is the step's output.

    Source: Gal & Ghahramani (2016) for a fixed mask; Park et al. (2019); the gates are those of Cho et al. (2014).

    Args:
        x: the input rows, packed, ``(N, in)``.
        batch_sizes: the number of rows of each step, ``T`` numbers that never increase and sum to ``N``.
        state: the initial hidden state, ``(B, H)``, in a tuple.
        mask: ``(B, H)``, the same at every step, or ``(T, B, H)``; any real numbers, differentiable.
        weights: the layer's parameters.

    Returns:
        The hidden states, ``(N, H)``, and, in a tuple, the one at each sequence's end, ``(B, H)``.

    Example:
        >>> layer = torch.nn.GRU(4, 3)
        >>> weights = LayerWeights(*layer.all_weights[0])
        >>> x = torch.randn(5, 2, 4)
        >>> output, _ = masked_gru_layer(x.view(10, 4), [2] * 5, (torch.zeros(2, 3),), torch.ones(2, 3), weights)
        >>> torch.allclose(output.view(5, 2, 3), layer(x)[0], atol=1e-6)
        True
    """
    kernel = FusedGRUKernel if _operators.has_fused_cells(x.device) else GRUKernel
    return run_layer(masked_gru_layer, kernel, x, batch_sizes, state, mask, weights)

"""The kernel of a masked GRU layer. The gates stand in the order reset, update, new, as in `torch.nn.GRU`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_advdrop.nn.layer import LayerInputs, LayerKernel, LayerWeights, States, run_layer
from lightning_advdrop.nn.packed import Block, split_steps, step_masks


class GRUKernel(LayerKernel):
    """The rows are the hidden states ``(N, H)``, the gates ``(N, 3H)`` and the new gate's product with ``h``.

    That product, bias included, is multiplied by the reset gate before it is added to the projected input. So the
    gradients of projected input and product differ.
    """

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        _, gates, self.products = rows
        self.units = self.products.shape[1]
        self.gates = gates.view(len(gates), 3, self.units)
        self.z = split_steps(self.gates[:, 1], self.sizes)

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """The recurrence."""
        sizes, (h,) = inputs.batch_sizes, inputs.states
        units = h.shape[1]
        hidden, gates, products = inputs.new_rows(units, 3 * units, units)
        recurrent = inputs.recurrent_product()
        bias_ih, bias_hh = inputs.weights.biases
        bias = bias_ih.clone()
        bias[: 2 * units] += bias_hh[: 2 * units]
        bias_n = bias_hh[2 * units :]
        views = zip(
            inputs.projected_steps(bias, gates),
            *(split_steps(gate, sizes) for gate in gates.view(-1, 3, units).unbind(1)),
            split_steps(products, sizes),
            split_steps(hidden, sizes),
            step_masks(inputs.mask, sizes),
            strict=True,
        )
        for all_gates, r, z, n, product_n, h_t, m in views:
            h = h if len(h) == len(h_t) else h[: len(h_t)]
            product = recurrent(h * m)
            all_gates[:, : 2 * units].add_(product[:, : 2 * units]).sigmoid_()
            torch.add(product[:, 2 * units :], bias_n, out=product_n)
            n.addcmul_(r, product_n).tanh_()
            h = torch.lerp(n, h, z, out=h_t)  # (1 - z) n + z h: what is carried over is not masked
        return hidden, gates, products

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """The gradients of the gates before their activation; for the product, the new gate's is times ``r``."""
        (grad_h,), sizes = grad_states, self.sizes[block.steps]
        slopes = self._slopes(block)
        grads = torch.empty_like(slopes)
        product = grads.view(-1, 4 * self.units)[:, : 3 * self.units]
        views = zip(
            range(block.first, block.last),
            incoming,
            *(split_steps(t, sizes) for t in (slopes, grads, product)),
            strict=True,
        )
        for t, dy, slope, grad, grad_product in reversed(list(views)):
            dh = grad_h[: len(dy)]
            dh.add_(dy)
            torch.mul(slope, dh.unsqueeze(1), out=grad)
            dh.mul_(self.z[t]).addcmul_(self.through_product(t, grad_product), self.masks[t])
        return torch.cat((grads[:, :2], grads[:, 3:]), 1).flatten(1), product

    def _slopes(self, block: Block) -> Tensor:
        """The factors of the hidden state's gradient for all rows ``n`` of a block at once, ``(n, 4, H)``.

        They lead to the reset gate, the update gate, the new gate's product and its projected input.
        """
        gates = self.gates[block.rows]
        r, z, n = gates.unbind(1)
        slopes = gates.new_empty(len(gates), 4, self.units)
        reset, update, product, projected = slopes.unbind(1)
        torch.sub(1, z, out=product)  # (1 - z) (1 - n^2)
        torch.addcmul(product, product, n.square(), value=-1, out=projected)
        torch.mul(projected, r, out=product)
        torch.addcmul(product, product, r, value=-1, out=reset).mul_(self.products[block.rows])
        torch.addcmul(z, z, z, value=-1, out=update).mul_(torch.cat(self.h_prev[block.steps]).sub_(n))
        return slopes


def masked_gru_layer(
    x: Tensor, batch_sizes: Sequence[int], state: States, mask: Tensor, weights: LayerWeights
) -> tuple[Tensor, States]:
    """One GRU layer in one direction whose recurrent input is masked: ``h[t-1] * mask`` enters the gates' products.

    What the update gate carries over, ``z * h[t-1]``, is not masked, and neither is the step's output. Gal &
    Ghahramani (2016) with a fixed mask; Park et al. (2019); the gates are those of `torch.nn.GRU`, Cho et al. (2014).

    Args:
        x: the input rows, packed, ``(N, in)``.
        batch_sizes: the rows of each step, ``T`` numbers that never increase and sum to ``N``.
        state: the initial hidden state alone, ``(B, H)``.
        mask: ``(B, H)``, the same at every step, or ``(T, B, H)``. Any real numbers; it takes part in the gradient.
        weights: the layer's parameters.

    Returns:
        The hidden states ``(N, H)``, and the one at each sequence's end, ``(B, H)``, alone in a tuple.

    Example:
        >>> layer = torch.nn.GRU(4, 3)
        >>> weights = LayerWeights(*layer.all_weights[0])
        >>> x = torch.randn(5, 2, 4)
        >>> output, _ = masked_gru_layer(x.view(10, 4), [2] * 5, (torch.zeros(2, 3),), torch.ones(2, 3), weights)
        >>> torch.allclose(output.view(5, 2, 3), layer(x)[0], atol=1e-6)
        True
    """
    return run_layer(masked_gru_layer, GRUKernel, x, batch_sizes, state, mask, weights)

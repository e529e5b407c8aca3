"""The kernels of masked Elman layers with tanh and ReLU, as in `torch.nn.RNN`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lightning_advdrop import _operators
from lightning_advdrop.nn.layer import LayerInputs, LayerKernel, LayerWeights, States, run_layer
from lightning_advdrop.nn.packed import Block, first_rows


class RNNKernel(LayerKernel):
    """The kernel of a layer without gates. Its rows are the hidden states ``(N, H)``.

    Attributes:
        activate_: the activation, in place.
        gradient: the gradient of the sum before the activation, from that after it and the result, into a third tensor.
    """

    activate_: ClassVar[staticmethod[[Tensor], Tensor]]
    gradient: ClassVar[staticmethod[[Tensor, Tensor, Tensor], Tensor]]

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        (self.hidden,) = rows
        (self._grads,) = self.block_rows(self.hidden.shape[1])

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """Run the recurrence."""
        (h,) = inputs.states
        (hidden,) = inputs.new_rows(h.shape[1])
        recurrent = inputs.recurrent_product()
        bias_ih, bias_hh = inputs.weights.biases
        masked = torch.empty_like(h)
        for h_t, m in inputs.steps(bias_ih + bias_hh, hidden):
            if len(h) != len(h_t):
                h, masked = h[: len(h_t)], masked[: len(h_t)]
            h = cls.activate_(recurrent.add_to(h_t, torch.mul(h, m, out=masked)))
        return (hidden,)

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Return the gradient of the sum before its activation, twice."""
        (grad_h,) = grad_states
        gradient = self.gradient
        grads = self._grads[: block.stop - block.start]
        for t, dy, h, grad in self.steps_back(block, incoming, self.hidden[block.rows], grads):
            dh = first_rows(grad_h, len(dy))
            gradient(dh.add_(dy), h, grad)
            torch.mul(self.through_product(t, grad), self.masks[t], out=dh)
        return grads, grads


class TanhKernel(RNNKernel):
    """The kernel of a tanh layer."""

    activate_ = staticmethod(torch.tanh_)
    gradient = staticmethod(_operators.tanh_gradient)


class ReluKernel(RNNKernel):
    """The kernel of a ReLU layer."""

    activate_ = staticmethod(torch.relu_)
    gradient = staticmethod(_operators.relu_gradient)


def masked_rnn_tanh_layer(
    x: Tensor, batch_sizes: Sequence[int], state: States, mask: Tensor, weights: LayerWeights
) -> tuple[Tensor, States]:
    """Run one tanh layer in one direction, with ``h[t-1] * mask`` in place of ``h[t-1]``.

    The step's output is not masked. Arguments and result are those of `masked_gru_layer`.

    Source: Gal & Ghahramani (2016) for a fixed mask; Park et al. (2019); the layer is that of Elman (1990).

    Example:
        >>> layer, x = torch.nn.RNN(4, 3), torch.randn(1, 2, 4)
        >>> args = (torch.zeros(2, 3),), torch.ones(2, 3), LayerWeights(*layer.all_weights[0])
        >>> torch.allclose(masked_rnn_tanh_layer(x[0], [2], *args)[0], layer(x)[0][0], atol=1e-6)
        True
    """
    return run_layer(masked_rnn_tanh_layer, TanhKernel, x, batch_sizes, state, mask, weights)


def masked_rnn_relu_layer(
    x: Tensor, batch_sizes: Sequence[int], state: States, mask: Tensor, weights: LayerWeights
) -> tuple[Tensor, States]:
    """Run one ReLU layer in one direction, like `masked_rnn_tanh_layer`.

    Example:
        >>> layer, x = torch.nn.RNN(4, 3, nonlinearity="relu"), torch.randn(1, 2, 4)
        >>> args = (torch.zeros(2, 3),), torch.ones(2, 3), LayerWeights(*layer.all_weights[0])
        >>> torch.allclose(masked_rnn_relu_layer(x[0], [2], *args)[0], layer(x)[0][0], atol=1e-6)
        True
    """
    return run_layer(masked_rnn_relu_layer, ReluKernel, x, batch_sizes, state, mask, weights)

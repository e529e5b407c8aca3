"""The kernels of masked RNN layers with tanh and relu, the layers of `torch.nn.RNN`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_advdrop.nn.layer import LayerInputs, LayerKernel, LayerWeights, States, run_layer
from lightning_advdrop.nn.packed import Block, split_steps, step_masks


class RNNKernel(LayerKernel):
    """A layer without gates; its activation must have a slope that can be told from the result. The rows are ``h``."""

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        super().__init__(inputs, rows, needed)
        (self.hidden,) = rows

    @staticmethod
    @abstractmethod
    def activate_(sums: Tensor) -> Tensor:
        """The activation, in place."""

    @staticmethod
    @abstractmethod
    def slope(activated: Tensor) -> Tensor:
        """The activation's derivative where its result is ``activated``."""

    @classmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """The recurrence."""
        (h,), sizes = inputs.states, inputs.batch_sizes
        (hidden,) = inputs.new_rows(h.shape[1])
        recurrent = inputs.recurrent_product()
        bias_ih, bias_hh = inputs.weights.biases
        views = zip(inputs.projected_steps(bias_ih + bias_hh, hidden), step_masks(inputs.mask, sizes), strict=True)
        for h_t, m in views:
            h = h if len(h) == len(h_t) else h[: len(h_t)]
            h = cls.activate_(recurrent.add_to(h_t, h * m))
        return (hidden,)

    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Both gradients are those of the sum before its activation."""
        (grad_h,), sizes = grad_states, self.sizes[block.steps]
        slopes = self.slope(self.hidden[block.rows])
        grads = torch.empty_like(slopes)
        views = zip(
            range(block.first, block.last), incoming, split_steps(slopes, sizes), split_steps(grads, sizes), strict=True
        )
        for t, dy, slope, grad in reversed(list(views)):
            dh = grad_h[: len(dy)]
            torch.mul(dh.add_(dy), slope, out=grad)
            torch.mul(self.through_product(t, grad), self.masks[t], out=dh)
        return grads, grads


class TanhKernel(RNNKernel):
    """``h[t] = tanh(...)``."""

    @staticmethod
    def activate_(sums: Tensor) -> Tensor:
        """The activation, in place."""
        return sums.tanh_()

    @staticmethod
    def slope(activated: Tensor) -> Tensor:
        """``1 - tanh^2``."""
        return torch.sub(1, activated.square())


class ReluKernel(RNNKernel):
    """``h[t] = relu(...)``."""

    @staticmethod
    def activate_(sums: Tensor) -> Tensor:
        """The activation, in place."""
        return sums.relu_()

    @staticmethod
    def slope(activated: Tensor) -> Tensor:
        """1 where the sum was positive, 0 elsewhere."""
        return activated.gt(0).to(activated.dtype)


def masked_rnn_tanh_layer(
    x: Tensor, batch_sizes: Sequence[int], state: States, mask: Tensor, weights: LayerWeights
) -> tuple[Tensor, States]:
    """One tanh layer of `torch.nn.RNN`, in one direction, whose recurrent input is masked.

    ``h[t-1] * mask`` enters the product with ``weight_hh``; the step's output is not masked. Gal & Ghahramani (2016)
    with a fixed mask; Park et al. (2019); the layer is that of Elman (1990).

    The arguments and the result are those of `masked_gru_layer`: rows ``(N, in)``, a state ``(B, H)`` alone in a tuple,
    a mask ``(B, H)`` or ``(T, B, H)``, and hidden states ``(N, H)``.

    Example:
        >>> layer = torch.nn.RNN(4, 3)
        >>> weights = LayerWeights(*layer.all_weights[0])
        >>> x = torch.randn(5, 2, 4)
        >>> output, _ = masked_rnn_tanh_layer(x.view(10, 4), [2] * 5, (torch.zeros(2, 3),), torch.ones(2, 3), weights)
        >>> torch.allclose(output.view(5, 2, 3), layer(x)[0], atol=1e-6)
        True
    """
    return run_layer(masked_rnn_tanh_layer, TanhKernel, x, batch_sizes, state, mask, weights)


def masked_rnn_relu_layer(
    x: Tensor, batch_sizes: Sequence[int], state: States, mask: Tensor, weights: LayerWeights
) -> tuple[Tensor, States]:
    """One relu layer of `torch.nn.RNN`, in one direction, whose recurrent input is masked.

    Like `masked_rnn_tanh_layer` with another activation: the same arguments, result, masking and sources.

    Example:
        >>> layer = torch.nn.RNN(4, 3, nonlinearity="relu")
        >>> weights = LayerWeights(*layer.all_weights[0])
        >>> x = torch.randn(5, 2, 4)
        >>> output, _ = masked_rnn_relu_layer(x.view(10, 4), [2] * 5, (torch.zeros(2, 3),), torch.ones(2, 3), weights)
        >>> torch.allclose(output.view(5, 2, 3), layer(x)[0], atol=1e-6)
        True
    """
    return run_layer(masked_rnn_relu_layer, ReluKernel, x, batch_sizes, state, mask, weights)

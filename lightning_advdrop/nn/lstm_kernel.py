"""One masked LSTM layer in one direction, as one autograd function with a written-out backward.

Sequences are in packed form throughout: the rows of all steps stand one after the other, ``(N, features)``, and
``batch_sizes`` says how many belong to each step (never more than to the step before). A padded batch ``(T, B,
features)`` is the case of ``T`` times ``B`` rows. ``H`` is the number of hidden units; the gates stand in the order
input, forget, cell, output, as in `torch.nn.LSTM`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function

from lightning_advdrop.nn.matmul import RepeatedProduct, WeightGradient

# Rows (steps times examples) whose gates are handled together on the CPU: enough for an efficient matrix product, and
# few enough for its result to be in the cache when the recurrence reads it.
_BLOCK_ROWS = 512


class LSTMWeights(NamedTuple):
    """The parameters of one layer in one direction, named as in `torch.nn.LSTM`; the biases may be None."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None


class _Block(NamedTuple):
    """A run of steps: ``first`` to ``last`` (excluded), which hold the rows ``start`` to ``stop`` (excluded)."""

    first: int
    last: int
    start: int
    stop: int


def _blocks(batch_sizes: Sequence[int], device: torch.device) -> Iterator[_Block]:
    limit = _BLOCK_ROWS if device.type == "cpu" else sum(batch_sizes)
    first = start = stop = 0
    for step, size in enumerate(batch_sizes):
        if step > first and stop + size - start > limit:
            yield _Block(first, step, start, stop)
            first, start = step, stop
        stop += size
    yield _Block(first, len(batch_sizes), start, stop)


def _steps(rows: Tensor, batch_sizes: Sequence[int]) -> Sequence[Tensor]:
    """Views of each step's rows."""
    return torch.split_with_sizes(rows, list(batch_sizes))


def _step_masks(mask: Tensor, batch_sizes: Sequence[int]) -> list[Tensor]:
    """The mask of each step, ``(rows, H)``: the same one for every step unless ``mask`` is ``(T, B, H)``."""
    per_step = mask.unbind(0) if mask.dim() == 3 else [mask] * len(batch_sizes)
    return [m if len(m) == size else m[:size] for m, size in zip(per_step, batch_sizes, strict=True)]


def _previous(states: Sequence[Tensor], initial: Tensor, batch_sizes: Sequence[int]) -> list[Tensor]:
    """What each step reads of a state: the step before, without the sequences that have ended."""
    return [s if len(s) == size else s[:size] for s, size in zip((initial, *states[:-1]), batch_sizes, strict=True)]


def last_rows(batch_sizes: Sequence[int], device: torch.device) -> Tensor:
    """The packed row of each sequence's last step, ``(B,)``."""
    rows = torch.empty(batch_sizes[0], dtype=torch.long, device=device)
    start = 0
    for size in batch_sizes:
        rows[:size] = torch.arange(start, start + size, device=device)
        start += size
    return rows


class _MaskedLSTMLayer(torch.autograd.Function):
    """See `masked_lstm_layer`. First derivatives only, as in the fused kernels of the stock layers."""

    @staticmethod
    def forward(
        ctx: Any,
        batch_sizes: tuple[int, ...],
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        mask: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor | None,
        bias_hh: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = LSTMWeights(weight_ih, weight_hh, bias_ih, bias_hh)
        sigmoids, hidden, cells = _run(batch_sizes, x, h0, c0, mask, weights)
        if batch_sizes[0] == batch_sizes[-1]:
            h_n, c_n = hidden[-batch_sizes[0] :].clone(), cells[-batch_sizes[0] :].clone()
        else:
            last = last_rows(batch_sizes, x.device)
            h_n, c_n = hidden[last], cells[last]
        ctx.batch_sizes = batch_sizes
        ctx.save_for_backward(sigmoids, hidden, cells, x, h0, c0, mask, weight_ih, weight_hh)
        return hidden, h_n, c_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        return _Backward(ctx.batch_sizes, ctx.saved_tensors, ctx.needs_input_grad).run(*grad_outputs)


def _run(
    batch_sizes: tuple[int, ...], x: Tensor, h0: Tensor, c0: Tensor, mask: Tensor, weights: LSTMWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """The recurrence. Returns the gates' sigmoids ``(N, 4H)``, the hidden states and the cell states ``(N, H)``."""
    units = weights.weight_hh.shape[1]
    sigmoids, hidden, cells = (x.new_empty(len(x), width) for width in (4 * units, units, units))
    recurrent = RepeatedProduct(weights.weight_hh, batch_sizes[0], len(batch_sizes))
    bias = x.new_zeros(4 * units)
    if weights.bias_ih is not None and weights.bias_hh is not None:
        bias = weights.bias_ih + weights.bias_hh
    views = zip(
        _steps(sigmoids, batch_sizes),
        *(_steps(gate, batch_sizes) for gate in sigmoids.view(-1, 4, units).unbind(1)),
        _steps(hidden, batch_sizes),
        _steps(cells, batch_sizes),
        _step_masks(mask, batch_sizes),
        strict=True,
    )
    h, c = h0, c0
    for block in _blocks(batch_sizes, x.device):
        rows = slice(block.start, block.stop)
        torch.addmm(bias, x[rows], weights.weight_ih.t(), out=sigmoids[rows])
        for _ in range(block.first, block.last):
            gates, i, f, s, o, h_t, c_t, m = next(views)
            if len(h) != len(h_t):
                h, c = h[: len(h_t)], c[: len(h_t)]
            recurrent.add_to(gates, h * m)
            s.mul_(2)  # tanh(z) = 2 sigmoid(2 z) - 1 makes every gate a sigmoid, taken of all at once
            gates.sigmoid_()
            torch.mul(f, c, out=c_t).sub_(i).addcmul_(i, s, value=2)  # f c + i (2 s - 1)
            torch.tanh(c_t, out=h_t).mul_(o)
            h, c = h_t, c_t
    return sigmoids, hidden, cells


class _Backward:
    """Backpropagation through the recurrence, a block of steps at a time, computing only the gradients asked for."""

    def __init__(self, batch_sizes: tuple[int, ...], saved: Sequence[Tensor], needed: Sequence[bool]) -> None:
        sigmoids, hidden, self.cells, self.x, h0, c0, self.mask, self.weight_ih, self.weight_hh = saved
        _, self.need_x, _, _, self.need_mask, need_ih, need_hh, need_bias_ih, need_bias_hh = needed
        self.need_bias = need_bias_ih or need_bias_hh
        self.sizes = batch_sizes
        self.units = hidden.shape[1]
        self.sigmoids = sigmoids.view(-1, 4, self.units)
        self.f = _steps(self.sigmoids[:, 1], batch_sizes)
        self.h_prev = _previous(_steps(hidden, batch_sizes), h0, batch_sizes)
        self.c_prev = _previous(_steps(self.cells, batch_sizes), c0, batch_sizes)
        self.masks = _step_masks(self.mask, batch_sizes)
        self.grad_mask = torch.zeros_like(self.mask) if self.need_mask else None
        self.grad_masks = _step_masks(self.grad_mask, batch_sizes) if self.grad_mask is not None else None
        self.grad_x = torch.empty_like(self.x) if self.need_x else None
        self.grad_ih = WeightGradient(need_ih, transposed=len(self.x) < 4 * self.units)
        self.grad_hh = WeightGradient(need_hh, transposed=len(self.x) < 4 * self.units)
        self.grad_bias: Tensor | None = None

    def run(self, grad_hidden: Tensor, grad_h_n: Tensor, grad_c_n: Tensor) -> tuple[Any, ...]:
        """Returns the gradients in the order of the arguments of `_MaskedLSTMLayer.forward`."""
        # What flows into each sequence's state from its future; it begins, at its last step, with the final states.
        grad_h, grad_c = grad_h_n.clone(), grad_c_n.clone()
        recurrent = RepeatedProduct(self.weight_hh.t(), self.sizes[0], len(self.sizes))
        incoming = _steps(grad_hidden, self.sizes)
        for block in reversed(list(_blocks(self.sizes, self.x.device))):
            per_cell, per_hidden, through_cell = self._slopes(block)
            # The derivative of the loss with respect to the gates before their activation.
            grad_gates = torch.empty_like(per_cell)
            sizes = self.sizes[block.first : block.last]
            views = zip(
                range(block.first, block.last),
                *(_steps(t, sizes) for t in (per_cell[:, :3], per_hidden, through_cell)),
                *(_steps(t, sizes) for t in (grad_gates.view(-1, 4 * self.units), grad_gates[:, :3], grad_gates[:, 3])),
                strict=True,
            )
            for t, slope_ifg, slope_o, slope_c, grad_all, grad_ifg, grad_o in reversed(list(views)):
                dh, dc = grad_h[: self.sizes[t]], grad_c[: self.sizes[t]]
                dh.add_(incoming[t])
                dc.addcmul_(dh, slope_c)
                torch.mul(slope_ifg, dc.unsqueeze(1), out=grad_ifg)
                torch.mul(slope_o, dh, out=grad_o)
                dc.mul_(self.f[t])
                grad_masked_h = recurrent(grad_all)
                if self.grad_masks is not None:
                    self.grad_masks[t].addcmul_(grad_masked_h, self.h_prev[t])
                torch.mul(grad_masked_h, self.masks[t], out=dh)
            self._accumulate(block, grad_gates.view(-1, 4 * self.units))
        grads = (self.grad_x, grad_h, grad_c, self.grad_mask, self.grad_ih.value, self.grad_hh.value, self.grad_bias)
        return (None, *grads, self.grad_bias)

    def _slopes(self, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
        """What does not depend on the gradients, for all rows ``n`` of a block at once.

        Returns:
            The slopes of the gates ``(n, 4, H)`` (of the first three, the factor of the cell's gradient), of the output
            gate alone ``(n, H)`` (the factor of the hidden state's gradient) and of the cell state ``(n, H)``.
        """
        rows = slice(block.start, block.stop)
        sigmoids = self.sigmoids[rows]
        i, _, s, o = sigmoids.unbind(1)
        tanh_c = self.cells[rows].tanh()
        slopes = torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1)  # s (1 - s), the derivative of the sigmoid
        slopes[:, 0].mul_(torch.sub(2 * s, 1))
        slopes[:, 2].mul_(i).mul_(4)  # tanh(z) = 2 s(2 z) - 1 has the derivative 4 s (1 - s)
        slopes[:, 3].mul_(tanh_c)
        sizes = self.sizes[block.first : block.last]
        for slope, c in zip(_steps(slopes[:, 1], sizes), self.c_prev[block.first : block.last], strict=True):
            slope.mul_(c)
        return slopes, slopes[:, 3], torch.addcmul(o, o, tanh_c.square_(), value=-1)

    def _accumulate(self, block: _Block, grad_gates: Tensor) -> None:
        """Adds one block's part, ``grad_gates`` of shape ``(n, 4H)``, to the gradients of the input and parameters."""
        rows = slice(block.start, block.stop)
        if self.grad_x is not None:
            torch.mm(grad_gates, self.weight_ih, out=self.grad_x[rows])
        self.grad_ih.add(grad_gates, lambda: self.x[rows])
        steps = slice(block.first, block.last)
        states = zip(self.h_prev[steps], self.masks[steps], strict=True)
        self.grad_hh.add(grad_gates, lambda: torch.cat([h * m for h, m in states]))
        if self.need_bias:
            total = grad_gates.sum(0)
            self.grad_bias = total if self.grad_bias is None else self.grad_bias.add_(total)


def masked_lstm_layer(
    x: Tensor, batch_sizes: Sequence[int], state: tuple[Tensor, Tensor], mask: Tensor, weights: LSTMWeights
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One LSTM layer in one direction whose recurrent input is masked: ``h[t-1] * mask`` enters the gates.

    The step's output and the cell state are not masked. Gal & Ghahramani (2016) with a fixed mask; Park et al. (2019),
    section "Adversarial dropout for recurrent neural networks".

    The matrix products of the parameters' gradients run over blocks of steps, so that neither the projected inputs
    nor their gradients are ever held for the whole sequence.

    Args:
        x: the input rows, packed, ``(N, in)``.
        batch_sizes: the rows of each step, ``T`` numbers that never increase and sum to ``N``.
        state: the initial hidden and cell state, each ``(B, H)``.
        mask: ``(B, H)``, the same at every step, or ``(T, B, H)``. Any real numbers; it takes part in the gradient.
        weights: the layer's parameters.

    Returns:
        The hidden states ``(N, H)``, and the hidden and cell state at each sequence's end, each ``(B, H)``.

    Example:
        >>> layer = torch.nn.LSTM(4, 3)
        >>> weights = LSTMWeights(*layer.all_weights[0])
        >>> x, zeros = torch.randn(5, 2, 4), torch.zeros(2, 3)
        >>> output, _ = masked_lstm_layer(x.view(10, 4), [2] * 5, (zeros, zeros), torch.ones(2, 3), weights)
        >>> torch.allclose(output.view(5, 2, 3), layer(x)[0], atol=1e-6)
        True
    """
    tensors = (x, *state, mask, *weights)
    if has_torch_function(tensors):
        # Makes the kernel visible to function modes, which see neither autograd functions nor in-place kernels.
        return handle_torch_function(masked_lstm_layer, tensors, x, batch_sizes, state, mask, weights)
    # Mixed precision would round the cell state at every step; the recurrence runs in its parameters' precision.
    with torch.autocast(x.device.type, enabled=False):
        dtype = weights.weight_hh.dtype
        inputs = (tensor.to(dtype) for tensor in (x, *state, mask))
        hidden, h_n, c_n = _MaskedLSTMLayer.apply(  # type: ignore[no-untyped-call]
            tuple(batch_sizes), *inputs, *weights
        )
    return hidden, (h_n, c_n)

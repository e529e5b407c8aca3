"""The autograd function of all masked layers, with a backward pass that is written out.

A kind of layer implements its recurrence, and the gradient of its gates for a block of steps (`LayerKernel`). Rows are
in packed form (see `lightning_advdrop.nn.packed`). ``H`` is the number of units, ``G`` the number of rows of
``weight_hh`` (of all gates together), and ``P`` the width of the recurrent hidden state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from lightning_advdrop.nn.graphs import GRAPHS
from lightning_advdrop.nn.matmul import RepeatedProduct, WeightGradient
from lightning_advdrop.nn.once import asked_for, differentiable_once
from lightning_advdrop.nn.packed import (
    Block,
    blocks,
    final_states,
    first_rows,
    previous_states,
    split_steps,
    step_masks,
)

States = tuple[Tensor, ...]


class LayerWeights(NamedTuple):
    """The parameters of one recurrent layer in one direction, named as in `torch.nn.LSTM`.

    The biases may be None. ``weight_hr`` is the projection of an LSTM with ``proj_size``, else None.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None

    @property
    def biases(self) -> tuple[Tensor, Tensor]:
        """Both biases, ``(G,)``, zeros where there are none."""
        zeros = self.weight_hh.new_zeros(len(self.weight_hh))
        return zeros if self.bias_ih is None else self.bias_ih, zeros if self.bias_hh is None else self.bias_hh


class LayerInputs(NamedTuple):
    """The arguments of one masked layer."""

    batch_sizes: tuple[int, ...]
    x: Tensor
    mask: Tensor
    weights: LayerWeights
    states: States

    def steps(self, bias: Tensor, projected: Tensor, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield each step's projected input, mask, and part of each of ``rows``.

        Args:
            bias: ``(G,)``.
            projected: where ``x @ weight_ih.T + bias`` is written, ``(N, G)``, block by block.
            rows: further rows, ``(N, ...)`` each.
        """
        split = (split_steps(tensor, self.batch_sizes) for tensor in rows)
        return zip(self._project(bias, projected), step_masks(self.mask, self.batch_sizes), *split, strict=True)

    def _project(self, bias: Tensor, out: Tensor) -> Iterator[Tensor]:
        weight = self.weights.weight_ih.t()
        for block in blocks(self.batch_sizes, self.x.device, len(bias)):
            rows = out[block.rows]
            torch.addmm(bias, self.x[block.rows], weight, out=rows)
            yield from split_steps(rows, self.batch_sizes[block.steps])

    def recurrent_product(self) -> RepeatedProduct:
        """Prepare the product of each step's masked hidden state with ``weight_hh``."""
        return RepeatedProduct(self.weights.weight_hh, self.batch_sizes[0], len(self.batch_sizes))

    def new_rows(self, *widths: int) -> list[Tensor]:
        """Allocate rows ``(N, width)``, one tensor for each width."""
        return [self.x.new_empty(len(self.x), width) for width in widths]


class LayerKernel(ABC):
    """One kind of layer: `forward` is its recurrence, and an instance makes one backward pass through it.

    Args:
        inputs: the arguments of the layer.
        rows: the rows that `forward` returned.
        needed: whether each tensor's gradient is needed, in the order of the arguments of `_MaskedLayer`.
    """

    def __init__(self, inputs: LayerInputs, rows: Sequence[Tensor], needed: Sequence[bool]) -> None:
        self.inputs, self.sizes = inputs, inputs.batch_sizes
        need_x, need_mask, need_ih, need_hh, self._need_bias_ih, self._need_bias_hh, self.need_hr, *_ = needed
        weight_hh = inputs.weights.weight_hh
        self.blocks = list(blocks(self.sizes, inputs.x.device, len(weight_hh)))
        self.h_prev = previous_states(rows[0], inputs.states[0], self.sizes)
        self.masks = step_masks(inputs.mask, self.sizes)
        self._recurrent = RepeatedProduct(weight_hh.t(), self.sizes[0], len(self.sizes))
        self._grad_mask = torch.zeros_like(inputs.mask) if need_mask else None
        self._grad_masks = step_masks(self._grad_mask, self.sizes) if self._grad_mask is not None else None
        self._grad_x = torch.empty_like(inputs.x) if need_x else None
        self._grad_ih = WeightGradient(need_ih)
        self._grad_hh = WeightGradient(need_hh)
        self._grad_bias_ih: Tensor | None = None
        self._grad_bias_hh: Tensor | None = None
        self._grad_masked_h = weight_hh.new_empty(self.sizes[0], weight_hh.shape[1])

    def block_rows(self, *widths: int) -> list[Tensor]:
        """Allocate rows for the largest block, one tensor for each width, which all blocks use in turn."""
        count = max(block.stop - block.start for block in self.blocks)
        return [self.inputs.x.new_empty(count, width) for width in widths]

    @classmethod
    @abstractmethod
    def forward(cls, inputs: LayerInputs) -> Sequence[Tensor]:
        """Run the recurrence.

        Returns:
            Rows for the backward pass, ``(N, width)`` each. The first are those of the states, in the order of
            ``inputs.states``, beginning with the hidden state, the layer's output.
        """

    @abstractmethod
    def backward_block(self, block: Block, incoming: Sequence[Tensor], grad_states: States) -> tuple[Tensor, Tensor]:
        """Go back through the steps of one block.

        Args:
            block: the block.
            incoming: the gradient of each step's output, ``(rows, P)``.
            grad_states: the gradient of each state after the block, ``(B, width)``; changed in place to that before it.

        Returns:
            The gradients of ``x @ weight_ih.T`` and of ``(mask * h) @ weight_hh.T``, ``(n, G)`` each for the ``n`` rows
            of the block; one tensor where they are equal.
        """

    @property
    def grad_hr(self) -> Tensor | None:
        """The gradient of ``weight_hr``, for kinds that have it."""
        return None

    def steps_back(self, block: Block, incoming: Sequence[Tensor], *rows: Tensor | None) -> Iterator[tuple[Any, ...]]:
        """Go through the steps of a block from the last to the first.

        Args:
            block: the block.
            incoming: the gradient of each step's output.
            rows: rows of the block, ``(n, ...)`` each, or None.

        Yields:
            Each step's number, incoming gradient, and part of each of ``rows``.
        """
        sizes = self.sizes[block.steps]
        split = ([None] * len(sizes) if tensor is None else split_steps(tensor, sizes) for tensor in rows)
        yield from reversed(list(zip(range(block.first, block.last), incoming, *split, strict=True)))

    def through_product(self, step: int, grad_product: Tensor) -> Tensor:
        """Return the gradient of one step's ``mask * h`` from that of ``(mask * h) @ weight_hh.T``, ``(rows, G)``.

        The result is overwritten by the next call.
        """
        grad_masked_h = self._recurrent(grad_product, out=first_rows(self._grad_masked_h, len(grad_product)))
        if self._grad_masks is not None:
            self._grad_masks[step].addcmul_(grad_masked_h, self.h_prev[step])
        return grad_masked_h

    def backward(self, grad_hidden: Tensor, *grad_finals: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients in the order of the tensors among the arguments of `_MaskedLayer`."""
        grad_states = tuple(grad.clone() for grad in grad_finals)
        incoming = split_steps(grad_hidden, self.sizes)
        for block in reversed(self.blocks):
            self._accumulate(block, *self.backward_block(block, incoming[block.steps], grad_states))
        weights = self._grad_ih.value, self._grad_hh.value, self._grad_bias_ih, self._grad_bias_hh, self.grad_hr
        return self._grad_x, self._grad_mask, *weights, *grad_states

    def _accumulate(self, block: Block, grad_projected: Tensor, grad_product: Tensor) -> None:
        """Add one block's part to the gradients of the input and parameters."""
        rows, weights = block.rows, self.inputs.weights
        if self._grad_x is not None:
            torch.mm(grad_projected, weights.weight_ih, out=self._grad_x[rows])
        self._grad_ih.add(grad_projected, lambda: self.inputs.x[rows])
        self._grad_hh.add(grad_product, lambda: self._masked_states(block))
        if grad_projected is grad_product:
            if self._need_bias_ih or self._need_bias_hh:
                self._grad_bias_ih = self._grad_bias_hh = _plus(self._grad_bias_ih, grad_product)
            return
        if self._need_bias_ih:
            self._grad_bias_ih = _plus(self._grad_bias_ih, grad_projected)
        if self._need_bias_hh:
            self._grad_bias_hh = _plus(self._grad_bias_hh, grad_product)

    @cached_property
    def _masked_rows(self) -> Tensor:
        return self.block_rows(self.inputs.weights.weight_hh.shape[1])[0]

    def _masked_states(self, block: Block) -> Tensor:
        """Return the rows ``mask * h`` that a block's steps multiplied by ``weight_hh``, ``(n, P)``."""
        rows = self._masked_rows[: block.stop - block.start]
        steps, sizes = block.steps, self.sizes[block.steps]
        for h, m, out in zip(self.h_prev[steps], self.masks[steps], split_steps(rows, sizes), strict=True):
            torch.mul(h, m, out=out)
        return rows


def _plus(total: Tensor | None, rows: Tensor) -> Tensor:
    return rows.sum(0) if total is None else total.add_(rows.sum(0))


class _MaskedLayer(torch.autograd.Function):
    """A masked layer, with first derivatives only, as the stock layers' fused kernels have."""

    @staticmethod
    def forward(
        ctx: Any,
        kernel: type[LayerKernel],
        batch_sizes: tuple[int, ...],
        x: Tensor,
        mask: Tensor,
        *weights_and_states: Any,
    ) -> tuple[Tensor, ...]:
        n_states = len(weights_and_states) - len(LayerWeights._fields)

        def forward(*tensors: Any) -> list[Tensor]:
            rows = kernel.forward(_inputs(batch_sizes, *tensors))
            return [*rows, *(final_states(state, batch_sizes) for state in rows[:n_states])]

        given = (x, mask, *weights_and_states)
        results: Any = GRAPHS(("forward", kernel, batch_sizes), forward, given)
        rows, finals = results[:-n_states], results[-n_states:]
        ctx.kernel, ctx.batch_sizes, ctx.tensors = kernel, batch_sizes, len(given)
        ctx.save_for_backward(*given, *rows)
        return rows[0], *finals

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        needed, tensors, saved = tuple(asked_for(ctx)[2:]), ctx.tensors, ctx.saved_tensors

        def backward(*given: Any) -> Sequence[Tensor | None]:
            inputs = _inputs(ctx.batch_sizes, *given[:tensors])
            kernel = ctx.kernel(inputs, given[tensors : len(saved)], needed)
            found: Sequence[Tensor | None] = kernel.backward(*given[len(saved) :])
            return found

        name = "backward", ctx.kernel, ctx.batch_sizes, needed
        return None, None, *GRAPHS(name, backward, (*saved, *grad_outputs))


def _inputs(batch_sizes: tuple[int, ...], x: Tensor, mask: Tensor, *weights_and_states: Any) -> LayerInputs:
    width = len(LayerWeights._fields)
    return LayerInputs(
        batch_sizes, x, mask, LayerWeights(*weights_and_states[:width]), tuple(weights_and_states[width:])
    )


def run_layer(
    function: Callable[..., Any],
    kernel: type[LayerKernel],
    x: Tensor,
    batch_sizes: Sequence[int],
    state: States,
    mask: Tensor,
    weights: LayerWeights,
) -> tuple[Tensor, States]:
    """Run one masked layer, visibly to function modes.

    Args:
        function: the public function that was called, by which a mode recognises the call.
        kernel: the kind of layer.
        x: the input rows, ``(N, in)``.
        batch_sizes: the number of rows of each step.
        state: the initial states, each ``(B, width)``.
        mask: ``(B, P)`` or ``(T, B, P)``.
        weights: the layer's parameters.

    Returns:
        The hidden states ``(N, P)``, and the states at each sequence's end.
    """
    tensors = (x, *state, mask, *weights)
    if has_torch_function(tensors):
        # A mode sees neither autograd functions nor what they call.
        result: tuple[Tensor, States] = handle_torch_function(function, tensors, x, batch_sizes, state, mask, weights)
        return result
    # In the parameters' precision, since autocast would round the states at every step.
    with torch.autocast(x.device.type, enabled=False):
        dtype = weights.weight_hh.dtype
        inputs = x.to(dtype), mask.to(dtype), *weights, *(s.to(dtype) for s in state)
        hidden, *finals = _MaskedLayer.apply(kernel, tuple(batch_sizes), *inputs)  # type: ignore[no-untyped-call]
    return hidden, tuple(finals)

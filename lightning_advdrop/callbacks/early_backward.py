"""The backward pass of a step's own loss, before other passes are made, so that one graph is held at a time.

A penalty that has no gradient to the base pass needs nothing of that pass's graph once the loss's gradients are known.
They are computed at once, which frees the graph, and handed out when the step's loss is propagated back. So all that
Lightning does around that works as before: accumulation, scaling, reduction over processes, clipping, hooks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_advdrop._lightning import attached_trainer, has_own_backward
from lightning_advdrop._torch import parametrizations_are_cached, without_tensor_hooks
from lightning_advdrop.regularizers import Passes

# Of `torch.utils.checkpoint` with use_reentrant=True: its backward pass accumulates gradients itself.
_REENTRANT = "CheckpointFunctionBackward"


class EarlyBackward(NamedTuple):
    """What a backward pass of the loss has left.

    Attributes:
        loss: the loss's value, whose backward pass hands the gradients out.
        gradients: gradients of the loss, by the identity of what else they were wanted at.
    """

    loss: Tensor
    gradients: dict[int, Tensor]


class _HandOut(torch.autograd.Function):
    """A scalar with known gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor | None, gradients: Sequence[Tensor], *_: Tensor) -> Tensor:
        ctx.scale, ctx.gradients = scale, gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        factor = incoming if ctx.scale is None else incoming / ctx.scale
        return None, None, None, *(gradient * factor.to(gradient.device) for gradient in ctx.gradients)


class _Graph:
    """The graph of a loss.

    Args:
        loss: a scalar with a graph.

    Attributes:
        leaves: what it has gradients to.
        reentrant: whether a part of it computes gradients by a backward pass of its own.
    """

    def __init__(self, loss: Tensor) -> None:
        self.leaves: list[Tensor] = []
        self.reentrant = False
        self._nodes: set[Any] = {loss.grad_fn}
        waiting: list[Any] = [loss.grad_fn]
        while waiting:
            node = waiting.pop()
            if hasattr(node, "variable"):
                self.leaves.append(node.variable)
            self.reentrant |= type(node).__name__ == _REENTRANT
            for following, _ in node.next_functions:
                if following is not None and following not in self._nodes:
                    self._nodes.add(following)
                    waiting.append(following)

    def contains(self, tensors: Iterable[Tensor]) -> bool:
        """Tell whether one of some tensors was computed in it."""
        return any(tensor.grad_fn is not None and tensor.grad_fn in self._nodes for tensor in tensors)


def early_backward(
    pl_module: LightningModule, loss: Tensor, passes: Sequence[Passes], wanted: Sequence[Tensor]
) -> EarlyBackward | str:
    """Propagate the loss of a step back, and free its graph.

    Args:
        pl_module: the module that is trained.
        loss: the loss without penalties, a scalar with a graph.
        passes: the passes that the graph is from.
        wanted: what gradients are wanted at, beside all parameters.

    Returns:
        What it has left; or, where the graph must be kept, in words why.
    """
    if has_own_backward(pl_module):
        return "the module has a backward() of its own"
    graph = _Graph(loss)
    if graph.reentrant:
        return "checkpoint(use_reentrant=True) computes gradients by a backward pass of its own"
    if graph.contains(itertools.chain.from_iterable(each.recorded.hands_over for each in passes)):
        return "the passes share what is computed before the first mask acts"
    if parametrizations_are_cached():
        return "the passes share weights that parametrize.cached() holds"
    scale = _scale(pl_module, loss)
    inputs = [*graph.leaves, *(each for each in wanted if all(each is not leaf for leaf in graph.leaves))]
    gradients = _gradients(loss if scale is None else loss * scale, inputs)
    found = {id(each): gradient for each, gradient in zip(inputs, gradients, strict=True)}
    # Leaves without a gradient are left out, as in a backward pass that does not reach them.
    masks = {id(each) for each in wanted}
    used = [leaf for leaf in graph.leaves if found[id(leaf)] is not None and id(leaf) not in masks]
    handed: Tensor = _HandOut.apply(  # type: ignore[no-untyped-call]
        loss.detach(), scale, [found[id(leaf)] for leaf in used], *used
    )
    return EarlyBackward(handed, {id(each): _or_zeros(found[id(each)], each) for each in wanted})


def _gradients(loss: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    with ExitStack() as stack:
        # Hooks of parameters see the whole gradient, when it is handed out.
        stack.enter_context(without_tensor_hooks(inputs))
        for device in {"cpu", loss.device.type}:  # a backward pass runs outside of autocast
            stack.enter_context(torch.autocast(device, enabled=False))
        return torch.autograd.grad(loss, inputs, allow_unused=True)


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _scale(pl_module: LightningModule, loss: Tensor) -> Tensor | None:
    """Return what the loss will be multiplied by for the sake of gradients in half precision."""
    trainer = attached_trainer(pl_module)
    scaler = None if trainer is None else getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not scaler.is_enabled():
        return None
    scale: Tensor = scaler.scale(torch.ones_like(loss, dtype=torch.float32))
    return scale

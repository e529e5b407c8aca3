"""The backward pass of a step's own loss, before other passes are made, so that one graph is held at a time.

A penalty that has no gradient to the base pass needs nothing of that pass's graph once the loss's gradients are known.
They are computed at once, which frees the graph, and handed out when the step's loss is propagated back. So all that
Lightning does around that works as before: accumulation, scaling, reduction over processes, clipping, hooks.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_advdrop._lightning import attached_trainer, has_own_backward
from lightning_advdrop._torch import is_leaf, keeps_graph, parametrizations_are_cached, without_tensor_hooks
from lightning_advdrop.regularizers import Passes

# Of `torch.utils.checkpoint` with use_reentrant=True: its backward pass accumulates gradients itself.
_REENTRANT = "CheckpointFunctionBackward"


class _HandOut(torch.autograd.Function):
    """A scalar as it is, whose backward pass hands out gradients besides."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, share: Tensor, scale: Tensor | None, gradients: Sequence[Tensor], *_: Tensor
    ) -> Tensor:
        ctx.share, ctx.scale, ctx.gradients = share, scale, list(gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        waiting: list[Tensor] | None = ctx.gradients
        if waiting is None:
            raise RuntimeError(
                "The loss of a training step was propagated back a second time, after its gradients had been handed "
                "out; call backward(retain_graph=True) the first time."
            )
        if keeps_graph():
            waiting = waiting.copy()
        else:  # each is freed as soon as its product is there
            ctx.gradients = None
        waiting.reverse()
        factor = incoming * ctx.share
        if ctx.scale is not None:
            factor = factor / ctx.scale
        return incoming, None, None, None, *(_product(waiting, factor) for _ in range(len(waiting)))


def _product(waiting: list[Tensor], factor: Tensor) -> Tensor:
    """Take the last gradient, and multiply it into memory of its own: it may be that of another leaf, too."""
    gradient = waiting.pop()
    return gradient * factor.to(gradient.device)


class EarlyBackward(NamedTuple):
    """What a backward pass of the loss has left.

    Attributes:
        loss: stands for the loss in what is computed from it.
        of_masks: gradients of the loss, by the identity of what else they were wanted at.
        handed_out: the gradients that `completed` hands out, and the leaf of each.
        scale: what the loss was multiplied by; None for 1.
    """

    loss: Tensor
    of_masks: dict[int, Tensor]
    handed_out: list[tuple[Tensor, Tensor]]
    scale: Tensor | None

    def completed(self, total: Tensor) -> Tensor:
        """Return a scalar that was computed from `loss`, whose backward pass hands the gradients out, too.

        It does so first, so that those of other passes are added to them one by one.
        """
        (share,) = torch.autograd.grad(total, self.loss, retain_graph=True)
        leaves, gradients = [leaf for leaf, _ in self.handed_out], [gradient for _, gradient in self.handed_out]
        found: Tensor = _HandOut.apply(total, share, self.scale, gradients, *leaves)  # type: ignore[no-untyped-call]
        return found


class _Graph:
    """The part of a loss's graph that no other pass uses.

    Args:
        loss: a scalar with a graph.
        shared: what other passes take as it is.

    Attributes:
        leaves: what this part has gradients to, without what is shared.
        boundary: what is shared and used in it.
        why: in words why it can't be separated from the rest; empty where it can.
    """

    def __init__(self, loss: Tensor, shared: Sequence[Tensor]) -> None:
        places = {(tensor.grad_fn, tensor.output_nr): tensor for tensor in shared if tensor.grad_fn is not None}
        stops = {node for node, _ in places}
        own, crossed = _walk([loss.grad_fn], stops)
        reached = {node for node, _ in crossed}
        below, _ = _walk(_following(stops))
        used, _ = _walk(_following(reached))
        self.leaves = [node.variable for node in own if is_leaf(node)]
        self.boundary = [tensor for place, tensor in places.items() if place in crossed]
        self.why = ""
        if any(type(node).__name__ == _REENTRANT for node in own):
            self.why = "checkpoint(use_reentrant=True) computes gradients by a backward pass of its own"
        # To stop a backward pass at what is shared, nothing behind that may be asked for.
        elif crossed - places.keys() or any(node in used or not is_leaf(node) for node in (own | reached) & below):
            self.why = "the passes share what is computed before the first mask acts, or outside of the forward"


def _following(nodes: Iterable[Any]) -> list[Any]:
    return [following for node in nodes for following, _ in node.next_functions if following is not None]


def _walk(nodes: Iterable[Any], stops: Collection[Any] = ()) -> tuple[set[Any], set[tuple[Any, int]]]:
    """Return the nodes that can be reached without passing a stop, and the stops that were, with their outputs."""
    waiting, found, crossed = list(nodes), set[Any](nodes), set[tuple[Any, int]]()
    while waiting:
        for following, output in waiting.pop().next_functions:
            if following in stops:
                crossed.add((following, output))
            elif following is not None and following not in found:
                found.add(following)
                waiting.append(following)
    return found, crossed


def early_backward(
    pl_module: LightningModule,
    loss: Tensor,
    passes: Sequence[Passes],
    wanted: Sequence[Tensor],
    held: Sequence[Tensor] = (),
) -> EarlyBackward | str:
    """Propagate the loss of a step back, and free its graph.

    What other passes take with its graph, such as layers before the first mask, is left alone: the gradient goes that
    far, and further when it is handed out.

    Args:
        pl_module: the module that is trained.
        loss: the loss without penalties, a scalar with a graph.
        passes: the passes that the graph is from.
        wanted: what gradients are wanted at, beside all parameters.
        held: what else other passes take as it is.

    Returns:
        What it has left; or, where the graph must be kept, in words why.
    """
    if has_own_backward(pl_module):
        return "the module has a backward() of its own"
    if parametrizations_are_cached():
        return "the passes share weights that parametrize.cached() holds"
    graph = _Graph(loss, [*held, *itertools.chain.from_iterable(_shared(each) for each in passes)])
    if graph.why:
        return graph.why
    scale = _scale(pl_module, loss)
    leaves = [*graph.leaves, *graph.boundary]
    inputs = [*leaves, *(each for each in wanted if all(each is not leaf for leaf in leaves))]
    gradients, others = _gradients(pl_module, loss if scale is None else loss * scale, inputs)
    found = {id(each): gradient for each, gradient in zip(inputs, gradients, strict=True)}
    of_masks = {id(each): _finite(found.pop(id(each)), each, scaled=scale is not None) for each in wanted}
    # Leaves without a gradient are left out, as in a backward pass that does not reach them.
    handed = [(leaf, known) for leaf in leaves if (known := found.get(id(leaf))) is not None]
    return EarlyBackward(loss.detach().requires_grad_(), of_masks, [*handed, *others], scale)


def _shared(passes: Passes) -> list[Tensor]:
    given = [each for each in (passes.target, passes.sample_weight) if each is not None]
    return [*passes.recorded.hands_over, *given]


def _gradients(
    pl_module: LightningModule, loss: Tensor, inputs: Sequence[Tensor]
) -> tuple[Sequence[Tensor | None], list[tuple[Tensor, Tensor]]]:
    """Compute gradients, and those that a function of the graph has accumulated by a backward pass of its own."""
    parameters = list(pl_module.parameters())
    before = [parameter.grad for parameter in parameters]
    with ExitStack() as stack:
        # Hooks of parameters see the whole gradient, when it is handed out.
        stack.enter_context(without_tensor_hooks(inputs))
        for device in {"cpu", loss.device.type}:  # a backward pass runs outside of autocast
            stack.enter_context(torch.autocast(device, enabled=False))
        for parameter in parameters:
            parameter.grad = None
        try:
            found = torch.autograd.grad(loss, inputs, allow_unused=True)
            own = [(each, gradient) for each in parameters if (gradient := each.grad) is not None]
        finally:
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter.grad = gradient
    return found, [*own]


def _finite(gradient: Tensor | None, like: Tensor, *, scaled: bool) -> Tensor:
    """Return the gradient of a mask; zeros for none, and where a scaled loss overflows, whose step is skipped."""
    if gradient is None:
        return torch.zeros_like(like)
    return gradient.nan_to_num(0.0, 0.0, 0.0) if scaled else gradient


def _scale(pl_module: LightningModule, loss: Tensor) -> Tensor | None:
    """Return what the loss will be multiplied by: one over the batches of a step, and the factor of half precision."""
    trainer = attached_trainer(pl_module)
    if trainer is None:
        return None
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scale = torch.ones_like(loss, dtype=torch.float32 if loss.dtype.itemsize < 4 else loss.dtype)
    if scaler is not None and scaler.is_enabled():
        scale = scaler.scale(scale)
    elif trainer.accumulate_grad_batches == 1:
        return None
    return scale / trainer.accumulate_grad_batches

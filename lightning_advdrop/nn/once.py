"""Backward passes that are written out: what is asked of one, and that it can't be differentiated again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_advdrop import _torch

Backward = Callable[..., tuple[Any, ...]]


def differentiable_once(backward: Backward) -> Backward:
    """Decorate the backward pass of an autograd function that is written out, and has no gradient itself.

    Torch's own decorator lets gradients pass as constants where the incoming ones are, which is silently wrong.

    Args:
        backward: ``backward(ctx, *grad_outputs)``, of a function that saved all tensors on which its gradients depend.

    Returns:
        The same with results that raise a `RuntimeError` when they are differentiated.
    """

    @functools.wraps(backward)
    def once(ctx: Any, *grad_outputs: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            found = backward(ctx, *grad_outputs)
        if not torch.is_grad_enabled():  # it is under create_graph=True only
            return found
        grads = [grad for grad in found if isinstance(grad, Tensor)]
        # What the gradients depend on is given along, for the node to be on the way to it.
        guarded: Any = _Once.apply(len(grads), *grads, *ctx.saved_tensors, *grad_outputs)  # type: ignore[no-untyped-call]
        left = iter(guarded)
        return tuple(next(left) if isinstance(grad, Tensor) else grad for grad in found)

    return once


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, number: int, *tensors: Any) -> tuple[Tensor, ...]:  # noqa: ARG004
        return tuple(grad.view_as(grad) for grad in tensors[:number])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # noqa: ARG004
        raise RuntimeError(
            "sites: a recurrent layer under a mask can be differentiated once only, and the gradient of its gradient "
            "was asked for (create_graph=True); name sites of the kind 'input' or 'output', which leave the layer to "
            "torch."
        )


def asked_for(ctx: Any) -> list[bool]:
    """Tell for each argument of an autograd function whether the backward pass that runs needs its gradient.

    Torch tells a function in Python only which arguments require gradients. A search, which needs those of the masks
    alone, would pay for those of the weights.
    """
    nodes = (node for node, _ in ctx.next_functions if node is not None)  # of the arguments that require a gradient
    return [can_have and _torch.will_run(next(nodes)) for can_have in ctx.needs_input_grad]

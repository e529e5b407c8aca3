"""The part of a loss's graph that no other pass uses, and the gradients of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from lightning_advdrop._torch import is_leaf

# Of `torch.utils.checkpoint` with use_reentrant=True: its backward pass accumulates gradients itself.
_REENTRANT = "CheckpointFunctionBackward"


class LossGraph:
    """The part of a loss's graph that no other pass uses.

    A backward pass through it stops at what is shared. Nothing behind that may be asked for, or the pass would go on to
    it. So the gradient of a parameter that is used on both sides is taken one node before it.

    Args:
        loss: a scalar with a graph.
        shared: what other passes take as it is.

    Attributes:
        leaves: what this part has gradients to, and the shared tensors that it uses.
        why: in words why it can't be separated from the rest; empty where it can.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> shared = 3 * x
        >>> graph = LossGraph(shared.sum(), [shared])
        >>> graph.leaves[0] is shared, graph.why
        (True, '')
    """

    def __init__(self, loss: Tensor, shared: Sequence[Tensor]) -> None:
        places = {(tensor.grad_fn, tensor.output_nr): tensor for tensor in shared if tensor.grad_fn is not None}
        stops = {node for node, _ in places}
        own, crossed = _walk([loss.grad_fn], stops)
        reached = {node for node, _ in crossed}
        below, _ = _walk(_following(stops))
        used, _ = _walk(_following(reached))
        tied = {node for node in own & used if is_leaf(node)}
        before = {node for node in own for following, _ in node.next_functions if following in tied}
        self._before = {
            node: sorted({output for other in own for following, output in other.next_functions if following is node})
            for node in before
        }
        leaves = [node.variable for node in own if is_leaf(node) and node not in tied]
        self.leaves: list[Tensor] = [*leaves, *(tensor for place, tensor in places.items() if place in crossed)]
        separable = crossed <= places.keys() and not any(not is_leaf(node) for node in (own | reached) & below)
        separable &= all(set(_following([node])) <= tied and self._before[node] for node in before)
        self.why = "" if separable else "the passes share what the loss can't be separated from"
        if any(type(node).__name__ == _REENTRANT for node in own):
            self.why = "checkpoint(use_reentrant=True) computes gradients by a backward pass of its own"

    def gradients(self, loss: Tensor, others: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Compute the gradients of the loss, or a multiple of it, and free this part of the graph.

        Args:
            loss: the loss.
            others: what else gradients are wanted at.

        Returns:
            Pairs of a tensor and its gradient, without tensors that have none; a tensor may be in several pairs.
        """
        inputs = {id(each): each for each in (*self.leaves, *others)}
        edges = [GradientEdge(node, output) for node, outputs in self._before.items() for output in outputs]
        wanted: Any = [*inputs.values(), *edges]  # tensors and edges, which the types of torch keep apart
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        pairs: list[tuple[Tensor, Tensor | None]] = list(zip(inputs.values(), found[: len(inputs)], strict=True))
        into = dict(zip(edges, found[len(inputs) :], strict=True))
        for node, outputs in self._before.items():
            pairs += _one_further(node, [into.get(GradientEdge(node, output)) for output in range(outputs[-1] + 1)])
        return [(tensor, gradient) for tensor, gradient in pairs if gradient is not None]


def _one_further(node: Any, incoming: list[Tensor | None]) -> list[tuple[Tensor, Tensor | None]]:
    """Propagate gradients through one node, to the leaves behind it."""
    if all(gradient is None for gradient in incoming):
        return []
    with torch.no_grad():
        found = node(*incoming)
    found = found if isinstance(found, tuple) else (found,)
    leaves = (following for following, _ in node.next_functions)
    return [(leaf.variable, each) for leaf, each in zip(leaves, found, strict=True) if leaf is not None]


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

"""Choose which of the forward passes of a step count."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from lightning_advdrop._torch import version_of
from lightning_advdrop.masking.prefix import memory_of
from lightning_advdrop.regularizers import Passes


class Call(NamedTuple):
    """A call of a watched module in a step.

    Attributes:
        path: the module's path.
        passes: the recorded pass; None where it can't count: without a graph, or of a module inside the one that does.
        input: what the forward got.
        versions: the tensors in its result, with how often each was written to when the forward ended.
    """

    path: str
    passes: Passes | None
    input: Tensor | None = None
    versions: Sequence[tuple[Tensor, int | None]] = ()

    def check_unwritten(self) -> None:
        """Check that the step did not write to the prediction, which other passes don't see changed.

        Raises:
            ValueError: if it did.
        """
        if self.passes is None or all(version_of(tensor) == version for tensor, version in self.versions):
            return
        written = [tensor for tensor, version in self.versions if version_of(tensor) != version]
        base = self.passes.base
        if callable(self.passes.output) or memory_of(base) in map(memory_of, written):
            raise ValueError(
                "module: training_step must not write to the prediction that is compared, got one that it changed in "
                "place after the forward; write p = p / 2 instead of p /= 2, or do it in the forward."
            )


def versions_in(result: Any) -> list[tuple[Tensor, int | None]]:
    """List the tensors in the result of a forward, with how often each was written to.

    Args:
        result: a tensor, or what holds tensors.
    """
    return [(leaf, version_of(leaf)) for leaf in _tensors(result)]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from itertools.chain.from_iterable(map(_tensors, value))
    elif isinstance(value, Mapping):
        yield from itertools.chain.from_iterable(map(_tensors, value.values()))
    elif dataclasses.is_dataclass(value):
        yield from itertools.chain.from_iterable(map(_tensors, vars(value).values()))


def outermost(paths: Iterable[str]) -> str:
    """Return the outermost of nested modules by their paths.

    Args:
        paths: at least one, each the beginning of every longer one.

    Example:
        >>> outermost(["model.encoder", "model"])
        'model'
    """
    return min(paths, key=len)


def compared(calls: Sequence[Call]) -> str:
    """Return the path of the module whose calls count: the outermost one that is called with a gradient.

    Args:
        calls: the calls of a step, at least one.
    """
    recorded = [call for call in calls if call.passes is not None]
    if len(recorded) == 1:
        return recorded[0].path
    for path in sorted({call.path for call in recorded}, key=len):
        if any(_has_gradient(call.passes) for call in recorded if call.path == path):
            return path
    return outermost(call.path for call in calls)


def trained(calls: Sequence[Call], loss: Tensor | None) -> list[Passes]:
    """Return those passes that the loss depends on; where it depends on none, all that have a gradient.

    A single pass is not looked at.

    Args:
        calls: the calls of one module in a step.
        loss: what is minimised.
    """
    passes = [call.passes for call in calls if call.passes is not None]
    if len(passes) < 2:
        return passes
    passes = [each for each in passes if _has_gradient(each)]
    within = depends_on(loss, [each.base for each in passes])
    return [each for each, used in zip(passes, within, strict=True) if used] or passes


def _has_gradient(passes: Passes | None) -> bool:
    return passes is not None and passes.base.requires_grad


def depends_on(loss: Tensor | None, tensors: Sequence[Tensor]) -> list[bool]:
    """Tell which tensors a loss has a gradient to, by a walk through its graph from the loss until all are found.

    Args:
        loss: a tensor; None depends on nothing.
        tensors: tensors that need a gradient.

    Example:
        >>> import torch
        >>> used, unused = torch.ones(2, requires_grad=True) * 2, torch.ones(2, requires_grad=True) * 3
        >>> depends_on(used.sum() + unused.detach().sum(), [used, unused])
        [True, False]
    """
    missing = {tensor.grad_fn for tensor in tensors}
    nodes: deque[Any] = deque([None if loss is None else loss.grad_fn])
    seen = {None}
    while nodes and missing:
        node = nodes.popleft()
        missing.discard(node)
        if node not in seen:
            seen.add(node)
            nodes.extend(following for following, _ in node.next_functions)
    return [tensor.grad_fn not in missing for tensor in tensors]


def loss_in(result: Any) -> Tensor | None:
    """Return the loss in what a training step returned: the tensor itself, or the one under ``loss``; None if neither.

    Args:
        result: what ``training_step`` returned.
    """
    loss = result.get("loss") if isinstance(result, Mapping) else result
    return loss if isinstance(loss, Tensor) else None

"""Tell which elements of an activation belong to which example of the batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

Shape = tuple[int, ...]


class Examples(NamedTuple):
    """The dimension of an activation that holds the examples.

    Attributes:
        view: the shape in which there is such a dimension: the activation's, or one in which its first dimension is
            split in two.
        dim: the dimension.

    Example:
        >>> time_first = Examples((5, 2, 3), 1)
        >>> time_first.rows(torch.zeros(5, 2, 3)).shape
        torch.Size([2, 15])
        >>> Examples((2, 5, 3), 0).rows(torch.zeros(10, 3)).shape
        torch.Size([2, 15])
    """

    view: Shape
    dim: int

    @property
    def size(self) -> int:
        """The number of examples, ``B``."""
        return self.view[self.dim]

    def rows(self, values: Tensor) -> Tensor:
        """Reshape values to one row for each example, ``(B, units)``."""
        moved = values.reshape(self.view).movedim(self.dim, 0)
        return moved.reshape(len(moved), -1)

    def from_rows(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Undo `rows` for values of a shape."""
        others = [size for dim, size in enumerate(self.view) if dim != self.dim]
        return rows.reshape(self.view[self.dim], *others).movedim(0, self.dim).reshape(tuple(shape))

    def spread(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Repeat one value for each example, ``(B,)``, over the elements of an activation."""
        alone = [size if dim == self.dim else 1 for dim, size in enumerate(self.view)]
        return values.reshape(alone).expand(self.view).reshape(tuple(shape))


class Candidate(NamedTuple):
    """A way in which an activation and the prediction may hold the same examples."""

    activation: Examples
    prediction: Examples


@dataclass
class BatchEvidence:
    """Evidence that the layers of a forward have given of its batch.

    Attributes:
        sequences: the number of steps and of examples of each recurrent or attention layer.
        packed: the batch sizes of packed sequences.
    """

    sequences: set[tuple[int, int]] = field(default_factory=set)
    packed: set[tuple[int, ...]] = field(default_factory=set)

    def dim(self, shape: Shape) -> int | None:
        """Return the dimension of the examples in an activation that has the steps and examples of a layer."""
        if len(shape) < 3 or shape[0] == shape[1]:
            return None
        dims = {int(shape[:2] == each) for each in self.sequences if shape[:2] in {each, each[::-1]}}
        return dims.pop() if len(dims) == 1 else None

    def prediction_dims(self, shape: Shape) -> list[int]:
        """Return the dimensions that may hold the examples of a prediction, the more usual one first."""
        dim = self.dim(shape)
        return list(_leading(shape)) if dim is None else [dim]

    def batch_sizes(self, shape: Shape) -> tuple[int, ...] | None:
        """Return the batch sizes of the packed sequences that have as many rows as an activation ``(N, D)``."""
        fitting = [sizes for sizes in self.packed if len(shape) == 2 and sum(sizes) == shape[0]]
        return fitting[0] if len(fitting) == 1 else None


def candidates(activation: Shape, prediction: Shape, evidence: BatchEvidence) -> list[Candidate]:
    """List the ways in which an activation may hold the prediction's examples, the most usual one first.

    Examples are in one of the first two dimensions of both, features and classes in the last one. Unless the first
    dimensions of both are equally long, the activation's may hold examples and something else, or that of the
    prediction: then another dimension, of channels or steps, may be as long by chance.

    Args:
        activation: the shape of an activation.
        prediction: the shape of the prediction.
        evidence: what layers have shown. Of an activation, nothing is listed that contradicts it.

    Example:
        >>> candidates((5, 2, 3), (2, 10), BatchEvidence())
        [Candidate(activation=Examples(view=(5, 2, 3), dim=1), prediction=Examples(view=(2, 10), dim=0))]
        >>> [each.activation.view for each in candidates((6, 2, 3), (2, 10), BatchEvidence())]
        [(6, 2, 3), (2, 3, 2, 3), (3, 2, 2, 3)]
    """
    if math.prod(prediction[:-1] or prediction) == 1:
        whole = Examples((1, math.prod(activation)), 0)
        return [Candidate(whole, Examples(prediction, 0))]
    told = evidence.prediction_dims(prediction)
    found = list(_ways(activation, prediction, told, evidence))
    found = found or list(_ways(activation, prediction, list(_leading(prediction)), evidence))
    dim = evidence.dim(activation)
    if dim is None:
        return found
    agreeing = [each for each in found if dim == (each.activation.dim if each.activation.view == activation else 0)]
    return agreeing or [Candidate(Examples(activation, dim), Examples(prediction, 0))]


def _leading(shape: Shape) -> range:
    return range(min(2, max(1, len(shape) - 1)))


def _ways(activation: Shape, prediction: Shape, dims: Sequence[int], evidence: BatchEvidence) -> Iterator[Candidate]:
    """List the ways in which some dimensions of the prediction may hold the examples."""
    settled = activation[0] == prediction[dims[0]]
    for of_prediction in dims:
        size, held = prediction[of_prediction], Examples(prediction, of_prediction)
        for dim in _leading(activation):
            if activation[dim] == size:
                yield Candidate(Examples(activation, dim), held)
        if not settled:
            yield from _flattened(activation, held)
            if of_prediction == 0:
                yield from _flat_predictions(activation, prediction, evidence)


def _flattened(activation: Shape, held: Examples) -> Iterator[Candidate]:
    """Split an activation's first dimension into examples and something else, in either order."""
    if held.size > 1 and activation[0] > held.size and activation[0] % held.size == 0:
        others = activation[0] // held.size
        for view, dim in (((held.size, others), 0), ((others, held.size), 1)):
            yield Candidate(Examples((*view, *activation[1:]), dim), held)


def _flat_predictions(activation: Shape, prediction: Shape, evidence: BatchEvidence) -> Iterator[Candidate]:
    """Split a prediction's first dimension as an activation's first two, or else as steps and examples of a layer.

    The latter is for attention weights ``(B, heads, L, S)``.
    """
    if len(activation) > 2 and prediction[0] == activation[0] * activation[1] and 1 not in activation[:2]:
        view = (*activation[:2], *prediction[1:])
        yield from (Candidate(Examples(activation, dim), Examples(view, dim)) for dim in (0, 1))
        return
    for steps, batch in sorted(evidence.sequences):
        if len(activation) > 2 and activation[0] == batch and prediction[0] == steps * batch:
            views = ((steps, batch), 1), ((batch, steps), 0)
            for parts, dim in views if batch > 1 else views[:1]:
                yield Candidate(Examples(activation, 0), Examples((*parts, *prediction[1:]), dim))


def fits(candidate: Candidate, prediction: Tensor, values: Tensor) -> bool:
    """Tell whether single examples of the prediction depend on the same examples of an activation, and on no others.

    Args:
        candidate: how the two may hold the same examples.
        prediction: the prediction, with a graph to ``values``.
        values: what was multiplied by the activation or added to it, a leaf.
    """
    rows = candidate.prediction.rows(prediction)
    weights = torch.linspace(0.5, 1.5, rows.shape[1], dtype=rows.dtype, device=rows.device)  # not a sum of softmaxes
    for example in (0, -1):
        value = (rows[example] * weights).sum()
        (gradient,) = torch.autograd.grad(value, values, retain_graph=True, materialize_grads=True)
        reached = candidate.activation.rows(gradient).abs().amax(1) > 0
        if not reached[example] or reached.sum() > 1:
            return False
    return True

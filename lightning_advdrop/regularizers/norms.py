"""Norms of values that belong to examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from lightning_advdrop.masking import Observation
from lightning_advdrop.masking.examples import Examples


class ExampleRows(Protocol):
    """How the elements of values belong to examples."""

    def reduced(self, reduce: Literal["amax", "sum"], values: Tensor) -> Tensor:
        """Compute the largest value of each example or the sum, ``(B,)``."""
        ...

    def spread(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Repeat one value for each example, ``(B,)``, in a shape that broadcasts to the values."""
        ...


class _Dense:
    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def reduced(self, reduce: Literal["amax", "sum"], values: Tensor) -> Tensor:
        view, own = values.reshape(self._examples.view), self._examples.dim
        dims = [dim for dim in range(view.dim()) if dim != own]
        return view.amax(dims) if reduce == "amax" else view.sum(dims)

    def spread(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        return self._examples.spread(values, shape)


class _Packed:
    """Packed rows: the first of each step belongs to the first example."""

    def __init__(self, batch_sizes: Sequence[int]) -> None:
        self._size = batch_sizes[0]
        self._example = torch.cat([torch.arange(size) for size in batch_sizes])

    def reduced(self, reduce: Literal["amax", "sum"], values: Tensor) -> Tensor:
        rows = values.amax(-1) if reduce == "amax" else values.sum(-1)
        return values.new_zeros(self._size).scatter_reduce(0, self._example.to(values.device), rows, reduce)

    def spread(self, values: Tensor, shape: Sequence[int]) -> Tensor:  # noqa: ARG002
        return values[self._example.to(values.device)].unsqueeze(-1)


def example_rows(seen: Observation) -> ExampleRows:
    """Return how the elements of an activation belong to examples.

    Args:
        seen: what a site met; its examples are told.
    """
    if seen.batch_sizes is not None:
        return _Packed(seen.batch_sizes)
    return _Dense(seen.layout or Examples(seen.activation, seen.batch_dim or 0))


def norm_one(rows: Sequence[ExampleRows], values: Sequence[Tensor]) -> list[Tensor]:
    """Scale values to an L2 norm of 1 for each example, over all of them; zeros stay zeros.

    Args:
        rows: how the elements of each of the values belong to examples.
        values: at least one tensor.

    Raises:
        ValueError: if they don't have the same examples.
    """
    tiny = torch.finfo(values[0].dtype).tiny
    # The largest of each example first, so that squares of small gradients don't vanish.
    largest = [own.reduced("amax", value.abs()) for own, value in zip(rows, values, strict=True)]
    packed = any(isinstance(own, _Packed) for own in rows)
    if len({len(each) for each in largest}) > 1 or (len(rows) > 1 and packed):
        kind = "in packed sequences, whose orders may differ" if packed else "for batches of different sizes"
        raise ValueError(
            f"sites: a layer is called {len(rows)} times in one forward {kind}, so that no perturbation has one norm "
            "for each example; name other sites."
        )
    scale = torch.stack(largest).amax(0).clamp_min(tiny)
    values = [value / own.spread(scale, value.shape) for own, value in zip(rows, values, strict=True)]
    sums = [own.reduced("sum", value.square()) for own, value in zip(rows, values, strict=True)]
    norm = torch.stack(sums).sum(0).sqrt().clamp_min(tiny)
    return [value / own.spread(norm, value.shape) for own, value in zip(rows, values, strict=True)]

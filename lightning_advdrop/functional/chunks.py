"""Functions of two outputs' rows, computed a chunk of rows at a time where they have very many numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_advdrop._torch import in_transform

OfRows = Callable[[Tensor, Tensor], Tensor]
"""A function of two tensors ``(..., classes)``, whose value ``(...)`` for a row depends on that row alone."""

# Numbers of a chunk: for each thread of a processor, as many as its cache holds with what is computed from them; on
# other devices, which suffer more from many calls than from a full cache, so many that a chunk's memory is bounded.
_PER_THREAD, _ELSEWHERE = 2**17, 2**25


def by_chunks(of_rows: OfRows, p: Tensor, q: Tensor) -> Tensor:
    """Compute a function of the rows of two outputs; a chunk of rows at a time if there are very many numbers.

    The outputs of a language model have a number for each word of the vocabulary. Each step of a divergence would write
    and read tensors of their size, and keep some of them for the backward pass, which costs more than the arithmetic.
    All steps of a chunk are done in the cache, and done again in the backward pass, for which nothing but the outputs
    is kept. Values and gradients are those of the function.

    Args:
        of_rows: the function.
        p: ``(..., classes)``.
        q: the same shape.

    Returns:
        ``(...)``, which can be differentiated any number of times.

    Example:
        >>> by_chunks(lambda p, q: (p - q).square().sum(-1), torch.zeros(2, 3), torch.ones(2, 3)).tolist()
        [3.0, 3.0]
    """
    # A compiler joins the steps by itself, and transforms of functions have rules for torch's own operations only.
    if p.numel() <= _chunk_size(p) or torch.compiler.is_compiling() or in_transform():
        return of_rows(p, q)
    found: Tensor = _ByChunks.apply(of_rows, p.reshape(-1, p.shape[-1]), q.reshape(-1, q.shape[-1]))  # type: ignore[no-untyped-call]
    return found.view(p.shape[:-1])


class _ByChunks(torch.autograd.Function):
    """A function of rows ``(N, classes)``, whose steps are done again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, of_rows: OfRows, p: Tensor, q: Tensor) -> Tensor:
        """Compute the value of each row."""
        ctx.of_rows = of_rows
        ctx.save_for_backward(p, q)
        return torch.cat([of_rows(*chunk) for chunk in _chunks(p, q)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of those outputs that need one, by autograd."""
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # The gradient will be differentiated itself.
            return None, *_gradients(ctx.of_rows, ctx.saved_tensors, gradients[0], needed, create_graph=True)
        found = [torch.empty_like(each) for each in ctx.saved_tensors]
        for *chunk, gradient, first, second in _chunks(*ctx.saved_tensors, *gradients, *found):
            leaves = [each.detach().requires_grad_(need) for each, need in zip(chunk, needed, strict=True)]
            for where, each in zip((first, second), _gradients(ctx.of_rows, leaves, gradient, needed), strict=True):
                if each is not None:
                    where.copy_(each)
        return None, *(each if need else None for each, need in zip(found, needed, strict=True))


def _gradients(
    of_rows: OfRows, outputs: Any, gradient: Tensor, needed: Any, *, create_graph: bool = False
) -> list[Tensor | None]:
    with torch.enable_grad():
        value = of_rows(*outputs)
    wanted = [each for each, need in zip(outputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad(value, wanted, gradient, create_graph=create_graph))
    return [next(found) if need else None for need in needed]


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield chunks of the rows of several tensors, the first of which says how large they are."""
    rows = max(1, _chunk_size(tensors[0]) // tensors[0].shape[-1])
    return zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)


def _chunk_size(tensor: Tensor) -> int:
    return _PER_THREAD * torch.get_num_threads() if tensor.device.type == "cpu" else _ELSEWHERE

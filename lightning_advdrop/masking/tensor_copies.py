"""Copies of tensors and NumPy arrays, in which those that share memory share it again."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

# Its place before NumPy 2.
_byte_bounds: Callable[[Any], tuple[int, int]] = getattr(np, "byte_bounds", None) or np.lib.array_utils.byte_bounds


class _Span(NamedTuple):
    """The bytes of memory that a leaf reaches over, ``[low, high)``."""

    device: str
    low: int
    high: int
    leaf: int


def copies_of(leaves: Sequence[Any]) -> list[Any]:
    """Copy tensors and arrays. A tensor that requires a gradient gets a copy with a graph, which leads back to it.

    Args:
        leaves: tensors and arrays, each one once.

    Returns:
        The copies, in the same order.

    Example:
        >>> whole = torch.zeros(3)
        >>> first, second = copies_of([whole, whole[1:]])
        >>> second += 1
        >>> whole.tolist(), first.tolist()
        ([0.0, 0.0, 0.0], [0.0, 1.0, 1.0])
    """
    copied: list[Any] = [None] * len(leaves)
    for group in _overlapping([_span(number, leaf) for number, leaf in enumerate(leaves)]):
        if len(group) == 1 or not _aligned(leaves, group):
            for span in group:
                copied[span.leaf] = _copy(leaves[span.leaf])
        else:
            for span, copy in zip(group, _copies_of_one_memory([leaves[s.leaf] for s in group], group), strict=True):
                copied[span.leaf] = copy
    return copied


def _copy(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf.copy(order="K")
    if is_lazy(leaf):
        return leaf
    if leaf.requires_grad:
        with torch.enable_grad():
            return leaf.clone()
    return leaf.detach().clone()


def _span(number: int, leaf: Any) -> _Span:
    """Return the span of a leaf; an empty one of its own for what is never taken for a view."""
    if isinstance(leaf, Tensor):
        plain = type(leaf) is Tensor and leaf.layout is torch.strided and not leaf.requires_grad
        plain = plain and not leaf.is_conj() and not leaf.is_neg()  # bytes that are read as other numbers
        if not plain or not leaf.numel() or leaf.is_quantized or leaf.device.type == "meta":
            return _Span("", number, number, number)
        reach = sum((size - 1) * stride for size, stride in zip(leaf.shape, leaf.stride(), strict=True)) + 1
        low = leaf.data_ptr()
        return _Span(str(leaf.device), low, low + reach * leaf.element_size(), number)
    if not leaf.size or type(leaf) is not np.ndarray:
        return _Span("", number, number, number)
    low, high = _byte_bounds(leaf)
    return _Span("cpu", low, high, number)


def _overlapping(spans: list[_Span]) -> list[list[_Span]]:
    """Group spans that touch common bytes."""
    groups: list[list[_Span]] = []
    device, high = None, 0
    for span in sorted(spans):
        if groups and span.device == device and span.low < high:
            groups[-1].append(span)
            high = max(high, span.high)
        else:
            groups.append([span])
            device, high = span.device, span.high
    return groups


def _aligned(leaves: Sequence[Any], group: list[_Span]) -> bool:
    """Tell whether tensors can be laid over a copy that begins where the first leaf does."""
    return all(
        (span.low - group[0].low) % leaf.element_size() == 0
        for span in group
        if isinstance(leaf := leaves[span.leaf], Tensor)
    )


def _copies_of_one_memory(leaves: list[Any], spans: list[_Span]) -> list[Any]:
    """Copy all the bytes that leaves reach over, and lay the leaves over the copy."""
    low, high = spans[0].low, max(span.high for span in spans)
    first = next((leaf for leaf in leaves if isinstance(leaf, Tensor)), None)
    block = torch.empty(high - low, dtype=torch.uint8, device="cpu" if first is None else first.device)
    for leaf, span in zip(leaves, spans, strict=True):
        block[span.low - low : span.high - low] = _bytes_of(leaf, span)
    return [_laid_over(block, leaf, span.low - low) for leaf, span in zip(leaves, spans, strict=True)]


def _bytes_of(leaf: Any, span: _Span) -> Tensor:
    """Return a view of all bytes between a leaf's first and last element."""
    count = span.high - span.low
    if isinstance(leaf, Tensor):
        storage = leaf.untyped_storage()
        offset = span.low - storage.data_ptr()
        return torch.empty(0, dtype=torch.uint8, device=leaf.device).set_(storage, offset, (count,), (1,))
    memory = (ctypes.c_uint8 * count).from_address(span.low)
    return torch.from_numpy(np.ctypeslib.as_array(memory).copy())


def _laid_over(block: Tensor, leaf: Any, offset: int) -> Any:
    if isinstance(leaf, Tensor):
        place = offset // leaf.element_size()
        laid = torch.empty(0, dtype=leaf.dtype, device=leaf.device)
        return laid.set_(block.untyped_storage(), place, leaf.shape, leaf.stride())
    first = sum((size - 1) * -stride for size, stride in zip(leaf.shape, leaf.strides, strict=True) if stride < 0)
    return np.ndarray(leaf.shape, leaf.dtype, block.numpy(), offset + first, leaf.strides)


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Tell whether two tensors agree to the bit, NaN with NaN too.

    Example:
        >>> same_bits(torch.tensor([torch.nan]), torch.tensor([torch.nan])), same_bits(torch.zeros(1), -torch.zeros(1))
        (True, False)
    """
    first = first.to(second.device)
    if first.layout is not torch.strided:
        return torch.equal(first, second)
    return first.shape == second.shape and torch.equal(_raw(first), _raw(second))


def _raw(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)

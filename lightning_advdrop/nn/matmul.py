"""Repeated products with one weight, the inner operation of every recurrence."""

from __future__ import annotations

import torch
from torch import Tensor

# Fewer products than this don't earn back the one-off cost of packing a weight.
_MIN_PRODUCTS_TO_PACK = 8
# Smaller weights stay in the cache between two products, and BLAS needs no help with them.
_MIN_ELEMENTS_TO_PACK = 2**18


class RepeatedProduct:
    """The product ``x @ weight.T``, prepared for many calls with the same weight.

    A BLAS rearranges its operands at every call. For a large weight and an ``x`` of few rows that costs as much as the
    product itself, so on the CPU, in float32, the weight is rearranged once, as oneDNN does inside the stock layers.

    Args:
        weight: the weight, ``(out, in)``. It must not change while the object is in use.
        rows: the number of rows that ``x`` typically has.
        products: how often a product will be asked for.

    Example:
        >>> product = RepeatedProduct(torch.eye(3), rows=2, products=100)
        >>> product(torch.ones(2, 3)).sum().item()
        6.0
        >>> product.add_to(torch.ones(2, 3), torch.ones(2, 3)).sum().item()
        12.0
    """

    def __init__(self, weight: Tensor, rows: int, products: int) -> None:
        self._transposed = weight.t()
        worth_it = products >= _MIN_PRODUCTS_TO_PACK and weight.numel() >= _MIN_ELEMENTS_TO_PACK
        self._packed: Tensor | None = None
        if worth_it and weight.device.type == "cpu" and weight.dtype is torch.float32 and _has_packed_linear():
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """Returns ``x @ weight.T`` as a new tensor, ``(rows, in) -> (rows, out)``."""
        if self._packed is None:
            return torch.mm(x, self._transposed)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return product

    def add_to(self, out: Tensor, x: Tensor) -> Tensor:
        """Adds ``x @ weight.T`` to ``out`` in place, and returns it."""
        return out.addmm_(x, self._transposed) if self._packed is None else out.add_(self(x))


def _has_packed_linear() -> bool:
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")

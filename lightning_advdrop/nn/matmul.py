"""Products with one weight: at each step, and over all steps for the weight's gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_advdrop import _torch

# Packing a weight costs more than it saves for fewer products than this.
_MIN_PRODUCTS_TO_PACK = 8
# Smaller weights stay in the cache between two products.
_MIN_ELEMENTS_TO_PACK = 2**18


class RepeatedProduct:
    """The product ``x @ weight.T``, prepared for many calls with the same weight.

    BLAS rearranges its operands at every call. For a large weight and an ``x`` of few rows that costs as much as the
    product itself. On the CPU, in float32, the weight is therefore rearranged once, as in the stock layers.

    Args:
        weight: the weight, ``(out, in)``. It must not change while the object is in use.
        rows: the number of rows that ``x`` typically has.
        products: the expected number of products.

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
        packable = weight.device.type == "cpu" and weight.dtype is torch.float32
        self._packed = _torch.packed_product(weight, rows) if worth_it and packable else None

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T`` as a new tensor, ``(rows, in) -> (rows, out)``."""
        return torch.mm(x, self._transposed) if self._packed is None else self._packed(x)

    def add_to(self, out: Tensor, x: Tensor) -> Tensor:
        """Add ``x @ weight.T`` to ``out`` in place, and return it."""
        return out.addmm_(x, self._transposed) if self._packed is None else out.add_(self(x))


class WeightGradient:
    """A weight's gradient, the sum of ``grad_gates.T @ inputs`` over blocks of rows.

    Args:
        needed: whether the gradient is needed; otherwise nothing is computed.
        transposed: whether to sum the transposed products, which is faster where there are fewer rows than gates.

    Example:
        >>> gradient = WeightGradient(True, transposed=True)
        >>> gradient.add(torch.ones(2, 8), lambda: torch.ones(2, 3))
        >>> gradient.add(torch.ones(1, 8), lambda: torch.ones(1, 3))
        >>> gradient.value.shape, gradient.value.sum().item()
        (torch.Size([8, 3]), 72.0)
    """

    def __init__(self, needed: bool, *, transposed: bool) -> None:
        self._needed = needed
        self._transposed = transposed
        self._sum: Tensor | None = None

    def add(self, grad_gates: Tensor, inputs: Callable[[], Tensor]) -> None:
        """Add one block of ``n`` rows.

        Args:
            grad_gates: the gradient of the product, ``(n, out)``.
            inputs: returns the rows that the weight was multiplied by, ``(n, in)``.
        """
        if not self._needed:
            return
        first, second = (inputs(), grad_gates) if self._transposed else (grad_gates, inputs())
        self._sum = torch.mm(first.t(), second) if self._sum is None else self._sum.addmm_(first.t(), second)

    @property
    def value(self) -> Tensor | None:
        """The gradient, ``(out, in)``; None if it is not needed."""
        return self._sum.t().contiguous() if self._sum is not None and self._transposed else self._sum

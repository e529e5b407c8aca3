"""Products with one weight: at each step, and over all steps for the weight's gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_advdrop import _torch

# Rearranging a weight costs more than it saves for fewer products than this.
_MIN_PRODUCTS_TO_PREPARE = 8
# Smaller weights stay in the cache between two products, where BLAS needs no more than transposed rows.
_MIN_ELEMENTS_TO_PACK = 2**21


class RepeatedProduct:
    """The product ``x @ weight.T``, prepared for many calls with the same weight.

    BLAS rearranges its operands at every call, which for an ``x`` of few rows costs as much as the product itself. On
    the CPU the weight is therefore transposed once, and a large one in float32 packed, as in the stock layers.

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
        worth_it = products >= _MIN_PRODUCTS_TO_PREPARE and weight.device.type == "cpu"
        packable = weight.numel() >= _MIN_ELEMENTS_TO_PACK and weight.dtype is torch.float32
        self._packed = _torch.packed_product(weight, rows) if worth_it and packable else None
        self._transposed = weight.t()
        if worth_it and self._packed is None:
            self._transposed = self._transposed.contiguous()

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return ``x @ weight.T``, ``(rows, in) -> (rows, out)``, in ``out`` where it is given and helps."""
        return torch.mm(x, self._transposed, out=out) if self._packed is None else self._packed(x)

    def add_to(self, out: Tensor, x: Tensor) -> Tensor:
        """Add ``x @ weight.T`` to ``out`` in place, and return it."""
        return out.addmm_(x, self._transposed) if self._packed is None else out.add_(self._packed(x))


class WeightGradient:
    """A weight's gradient, the sum of ``grad_gates.T @ inputs`` over blocks of rows.

    The transposed products are summed: with more gates than inputs they are faster.

    Args:
        needed: whether the gradient is needed; otherwise nothing is computed.

    Example:
        >>> gradient = WeightGradient(True)
        >>> gradient.add(torch.ones(2, 8), lambda: torch.ones(2, 3))
        >>> gradient.add(torch.ones(1, 8), lambda: torch.ones(1, 3))
        >>> gradient.value.shape, gradient.value.sum().item()
        (torch.Size([8, 3]), 72.0)
    """

    def __init__(self, needed: bool) -> None:
        self._needed = needed
        self._sum: Tensor | None = None

    def add(self, grad_gates: Tensor, inputs: Callable[[], Tensor]) -> None:
        """Add one block of ``n`` rows.

        Args:
            grad_gates: the gradient of the product, ``(n, out)``.
            inputs: returns the rows that the weight was multiplied by, ``(n, in)``.
        """
        if not self._needed:
            return
        turned = inputs().t()
        self._sum = torch.mm(turned, grad_gates) if self._sum is None else self._sum.addmm_(turned, grad_gates)

    @property
    def value(self) -> Tensor | None:
        """The gradient, ``(out, in)``; None if it is not needed."""
        return None if self._sum is None else self._sum.t().contiguous()

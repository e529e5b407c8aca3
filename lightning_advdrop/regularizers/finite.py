"""Errors of predictions that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from lightning_advdrop.regularizers.deciding import UndecidedError


@contextmanager
def telling_what_is_not_finite(base: Tensor) -> Iterator[None]:
    """Say that a prediction is NaN or infinite where an error comes of that."""
    try:
        yield
    except ValueError as error:
        if base.isfinite().all() or (isinstance(error, UndecidedError) and not base.isnan().any()):
            raise
        raise not_finite("without any mask") from error


def not_finite(where: str) -> FloatingPointError:
    """Return the error of a prediction that is NaN or infinite in a pass."""
    return FloatingPointError(
        f"The model's prediction must be finite, got NaN or infinity {where}, so that it can't be compared; look for "
        "NaN in the data and the weights, lower the learning rate or clip the gradients."
    )

"""Read a batch that a step may have taken apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

T = TypeVar("T")

_PLAIN = (int, float, complex, str, bytes, type(None))


class SteppedBatch:
    """A batch that is handed to a step, from which the step may remove what is to be read later.

    What the step puts into it counts: labels that it mixes or shifts are those that its own loss is computed with. What
    is no longer there after the step is read from what the batch held before.

    Args:
        batch: what the data loader yields, before the step.
        kept: whether its containers are copied (its tensors and arrays are not), so that what the step takes out of
            it can be read.

    Example:
        >>> batch = {"x": [1, 2], "y": [3]}
        >>> stepped = SteppedBatch(batch)
        >>> batch.pop("y"), batch["x"].append(3)
        ([3], None)
        >>> stepped.read(lambda each: each["x"]), stepped.read(lambda each: each["y"])
        ([1, 2, 3], [3])
    """

    def __init__(self, batch: Any, *, kept: bool = True) -> None:
        self._after = batch
        self._before = copied(batch) if kept else batch

    def read(self, select: Callable[[Any], T]) -> T:
        """Read a part of the batch as the step left it, or, where it isn't there, as it was before.

        Args:
            select: returns the part of a batch; it raises an exception or returns None where it isn't there.
        """
        try:
            found = select(self._after)
        except Exception as error:
            try:
                found = select(self._before)
            except Exception:  # noqa: BLE001, RUF100 - the first one is about the batch that the user sees
                raise error from None
            return found
        return select(self._before) if found is None else found


def copied(value: Any) -> Any:
    """Copy containers, and objects that hold parts as attributes; not tensors, nor what hands out batches itself.

    Args:
        value: anything.
    """
    if isinstance(value, (Tensor, Iterator, np.ndarray, *_PLAIN)):
        return value
    if type(value) in {list, tuple}:
        return type(value)(copied(member) for member in value)
    if type(value) is dict:
        return {name: copied(member) for name, member in value.items()}
    try:
        return copy.copy(value)
    except Exception:  # noqa: BLE001, RUF100 - whatever an object says that can't be copied
        return value


def without_inference(value: Any, *, every: bool = False) -> Any:
    """Replace tensors made in inference mode, which no graph can use, or every tensor, by copies.

    Example:
        >>> import torch
        >>> given = torch.zeros(1)
        >>> without_inference(given) is given, without_inference([given], every=True)[0] is given
        (True, False)
    """
    return apply_to_collection(value, Tensor, lambda each: each.clone() if every or each.is_inference() else each)

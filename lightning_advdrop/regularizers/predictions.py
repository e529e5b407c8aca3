"""Find the prediction in what a forward returns, and labels and weights in a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Target = int | str | Callable[[Any], Tensor]
Output = Target | None

# Where a prediction is looked for in outputs with named parts, in this order.
_NAMES = ("logits", "prediction")


def select_prediction(output: Any, which: Output = None) -> Tensor:
    """Find the prediction in a forward's output.

    Args:
        output: a tensor, or a tuple, mapping, named tuple or dataclass that holds one.
        which: an index, a key or attribute name, or a callable that gets the output. None takes a tensor as it is, else
            the part named ``logits`` or ``prediction``, else the first of a tuple.

    Raises:
        ValueError: if there is no such part, or what is found is not a tensor of floating-point numbers.

    Example:
        >>> select_prediction({"loss": torch.zeros(()), "logits": torch.zeros(2, 3)}).shape
        torch.Size([2, 3])
    """
    found = _default(output) if which is None else _part(output, which)
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.dim() == 0:
        raise ValueError(
            f"output={which!r} must lead to the prediction, a floating-point tensor (batch, ...), got {_kind_of(found)}"
            f" in {type_of(output)}{parts_of(output)}; name an index, a key or a callable "
            f"that picks it{_squeezed(found)}."
        )
    return found


def _squeezed(found: Any) -> str:
    if not isinstance(found, Tensor) or not found.is_floating_point():
        return ""
    return "; a batch of one example loses its dimension by squeeze(), and keeps it by squeeze(-1)"


def place_of(output: Any, which: Output, prediction: Tensor) -> str:
    """Tell in a line which of several parts of a forward's output was taken because it is the first.

    Example:
        >>> mean, deviation = torch.zeros(2, 1), torch.ones(2, 1)
        >>> place_of((mean, deviation), None, mean)
        '[0] of 2'
    """
    first = isinstance(output, (tuple, list)) and len(output) > 1 and output[0] is prediction
    return f"[0] of {len(output)}" if first and which is None else ""


def type_of(value: Any) -> str:
    """Name a value's type in a message: ``a dict``."""
    return f"a {type(value).__name__}"


def _kind_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    return type_of(value)


def _parts(output: Any) -> dict[Any, Any] | None:
    """The parts of a value by what picks each; None of one that has none."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name, None) for field in dataclasses.fields(output)}
    return dict(enumerate(output)) if isinstance(output, (tuple, list)) else None


def parts_of(output: Any) -> str:
    """Name the parts of a value in a message: `` with the keys loss, logits``."""
    parts = _parts(output)
    if parts is None:
        return ""
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        return f" of length {len(parts)}"
    return f" with the {'keys' if isinstance(output, Mapping) else 'fields'} {', '.join(map(str, parts))}"


def tensors_in(output: Any) -> dict[Any, Tensor]:
    """Return the tensors among the parts of a forward's output, by what picks each as ``output=``.

    Args:
        output: a tuple, list, mapping, named tuple or dataclass; anything else has no parts.

    Example:
        >>> list(tensors_in((torch.zeros(2), None, torch.ones(2))))
        [0, 2]
    """
    return {which: part for which, part in (_parts(output) or {}).items() if isinstance(part, Tensor)}


def other_parts(output: Any, prediction: Tensor) -> dict[Any, Tensor]:
    """Return the tensors beside the prediction in a forward's output; none if it was made of several of them.

    Args:
        output: see `tensors_in`.
        prediction: a part of it, or what a callable made of its parts.

    Example:
        >>> first, second = torch.zeros(2), torch.ones(2)
        >>> list(other_parts((first, second), first)), list(other_parts((first, second), torch.cat([first, second])))
        ([1], [])
    """
    parts = tensors_in(output)
    others = {which: part for which, part in parts.items() if part is not prediction}
    return others if len(others) < len(parts) else {}


def _default(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output
    for name in _NAMES:
        if isinstance(output, Mapping):
            if name in output:
                return output[name]
        elif hasattr(output, name):
            return getattr(output, name)
    return output[0] if isinstance(output, (tuple, list)) and output else None


def _part(output: Any, which: Target) -> Any:
    if callable(which):
        return which(output)
    try:
        if isinstance(which, str) and not isinstance(output, Mapping):
            return getattr(output, which)
        return output[which]
    except (AttributeError, IndexError, KeyError, TypeError):
        return None


def _of_batch(batch: Any, which: Target) -> Any:
    # A batch that is one tensor has examples, not parts.
    return None if isinstance(batch, Tensor) and not callable(which) else _part(batch, which)


def select_target(batch: Any, which: Target = 1) -> Tensor:
    """Find the labels in a batch.

    Args:
        batch: what the data loader yields.
        which: an index, a key or attribute name, or a callable that gets the batch; only a callable finds labels in a
            batch that is a tensor, of which an index would be an example.

    Raises:
        ValueError: if there is no tensor there.

    Example:
        >>> select_target((torch.zeros(2, 5), torch.tensor([0, 1])))
        tensor([0, 1])
    """
    found = _of_batch(batch, which)
    if not isinstance(found, Tensor):
        raise ValueError(  # noqa: TRY004 - what is wrong is the argument ``which``
            f"target={which!r} must lead to the labels, a tensor (batch, ...), got {type_of(found)} in {type_of(batch)}"
            f"{parts_of(batch)}; name an index, a key or a callable that picks them."
        )
    return found


def find_target(batch: Any, which: Target = 1) -> Tensor | None:
    """Find the labels in a batch as `select_target` does; None where there is no tensor.

    Example:
        >>> find_target({"input": 1}) is None
        True
    """
    found = _of_batch(batch, which)
    return found if isinstance(found, Tensor) else None


def select_weight(batch: Any, which: Target, prediction: Tensor) -> Tensor:
    """Find in a batch the weights that tell real examples or time steps from padding.

    Args:
        batch: what the data loader yields.
        which: an index, a key or attribute name, or a callable that gets the batch.
        prediction: ``(B, ...)``, what is to be weighted.

    Returns:
        The weights, with as many dimensions as the prediction has before its last one, or more if the batch has more.

    Raises:
        ValueError: if there is no tensor there, it holds anything but 0 and 1, or its shape is not that of the
            prediction's leading dimensions.

    Example:
        >>> batch = {"tokens": torch.zeros(2, 3), "real": torch.tensor([[1, 1, 0], [1, 0, 0]])}
        >>> select_weight(batch, "real", prediction=torch.zeros(2, 3, 5))
        tensor([[1, 1, 0],
                [1, 0, 0]])
    """
    found = _of_batch(batch, which)
    if not isinstance(found, Tensor) or found.dim() == 0:
        raise ValueError(
            f"padding_mask={which!r} must lead to a tensor (batch,) or (batch, time) that is 1 where the batch is real,"
            f" got {_kind_of(found)} in {type_of(batch)}{parts_of(batch)}; name an index, a key or a callable that "
            "picks it."
        )
    if found.dtype is not torch.bool and not ((found == 0) | (found == 1)).all():
        raise ValueError(
            f"padding_mask={which!r} must lead to a tensor of bool, or of 0 at padding and 1 where the batch is real, "
            f"got values from {found.min().item()} to {found.max().item()}; a callable makes one of lengths by "
            "torch.arange(steps) < lengths[:, None], and one of tokens by tokens != padding_index."
        )
    if found.shape != prediction.shape[: found.dim()]:
        raise ValueError(
            f"padding_mask={which!r} must have the leading shape of the prediction {tuple(prediction.shape)}, got "
            f"{tuple(found.shape)}; a callable can bring it into that shape."
        )
    missing = max(0, prediction.dim() - 1 - found.dim())
    return found.reshape(*found.shape, *(1,) * missing)

"""The masks of a recurrent call, and checks of their shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

Mask = Tensor | None


class RecurrentMasks(NamedTuple):
    """The masks of a recurrent call, not rescaled; None for no mask.

    ``B`` is the batch size, and ``P`` the width of the hidden state: the number of units, or ``proj_size``. For packed
    input, the rows of masks are in the order of the packed batch.

    Source: Gal & Ghahramani (2016); locked dropout as in Merity et al. (2018).

    Attributes:
        recurrent: for each layer and direction ``(B, P)``, or ``(T, B, P)`` in the order in which the direction takes
            the steps. It multiplies ``h[t-1]`` where it enters the gates.
        inputs: for each layer ``(B, 1, D)``, where ``D`` is the number of its input features; empty for no masks. It
            multiplies the layer's input after the dropout between layers.
        output: ``(B, 1, directions * P)``. It multiplies the output of the last layer, but not the final states.

    Example:
        >>> import torch
        >>> RecurrentMasks([torch.ones(2, 3), None]).inputs
        ()
    """

    recurrent: Sequence[Mask]
    inputs: Sequence[Mask] = ()
    output: Mask = None

    @property
    def empty(self) -> bool:
        """Whether there are no masks."""
        return all(mask is None for mask in (*self.recurrent, *self.inputs, self.output))


def check_mask_count(name: str, masks: Sequence[Mask], count: int, meaning: str) -> None:
    """Check the number of masks.

    Args:
        name: the argument that the message names.
        masks: the masks.
        count: the number that there must be.
        meaning: an explanation of that number, for the message.

    Raises:
        ValueError: if there is another number.

    Example:
        >>> check_mask_count("masks", [None], 1, "layers")
    """
    if len(masks) != count:
        raise ValueError(f"{name} must hold {count} masks ({meaning}), got {len(masks)}.")


def check_recurrent_mask(name: str, index: int, mask: Tensor, steps: int, batch: int, width: int) -> None:
    """Check the shape of the recurrent mask of one layer and direction.

    Args:
        name: the argument that the message names.
        index: the mask's position in it.
        mask: the mask.
        steps: the number of steps, ``T``.
        batch: the batch size, ``B``.
        width: the width of the hidden state, ``P``.

    Raises:
        ValueError: if it is neither ``(B, P)`` nor ``(T, B, P)``.

    Example:
        >>> import torch
        >>> check_recurrent_mask("masks", 0, torch.ones(2, 3), steps=5, batch=2, width=3)
    """
    allowed = [(batch, width), (steps, batch, width)]
    if tuple(mask.shape) not in allowed:
        raise ValueError(
            f"{name} must have the shape {allowed[0]} or {allowed[1]} for each layer and direction, "
            f"got {tuple(mask.shape)} at position {index}."
        )


def check_locked_mask(name: str, mask: Tensor, batch: int, width: int) -> None:
    """Check the shape of a mask that is the same at every step.

    Args:
        name: the argument that the message names, with the mask's position if it holds several.
        mask: the mask.
        batch: the batch size, ``B``.
        width: the number of features, ``D``.

    Raises:
        ValueError: if it is not ``(B, 1, D)``.

    Example:
        >>> import torch
        >>> check_locked_mask("output", torch.ones(2, 1, 3), batch=2, width=3)
    """
    if tuple(mask.shape) != (batch, 1, width):
        raise ValueError(f"{name} must have the shape {(batch, 1, width)}, got {tuple(mask.shape)}.")

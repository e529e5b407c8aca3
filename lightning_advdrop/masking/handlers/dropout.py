"""The network's own dropout, as modules and as functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from lightning_advdrop.masking.mode import MaskingMode

# Dimensions of what one example's channel holds, for dropout of whole channels.
_CHANNEL_DIMS = {F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}


def _dropout(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, drop_rate, training, inplace = _arguments(*args, **kwargs)
    if not training:
        return mode.call(function, args, kwargs)
    if not mode.dropout:
        return x
    site = mode.dropout_site(drop_rate)
    if site is None:
        return mode.call(function, args, kwargs)
    channel_dims = _CHANNEL_DIMS.get(function, 0)
    shape = tuple(x.shape[: x.dim() - channel_dims]) + (1,) * channel_dims
    # Laid out in memory as the activation, since that decides which element gets which random number.
    ones = x.new_ones(shape) if channel_dims else torch.ones_like(x)
    noise = function(ones, drop_rate, True) if mode.keep_masks else None
    own = None if noise is None else (noise != 0).to(noise.dtype)
    mask = mode.meet_dropout(site, shape, x, own)
    if mask is not None:
        mode.before_mask()
        if noise is None:  # drawn all the same, so that the dropout behind this one draws what it always draws
            function(ones, drop_rate, True)
        noise = mask
    if noise is None:
        return mode.call(function, args, kwargs)
    return x.mul_(noise) if inplace else x * noise


def _arguments(
    input: Tensor,  # noqa: A002 - torch's name
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    train: bool | None = None,
) -> tuple[Tensor, float, bool, bool]:
    """The arguments of the functions of this file, as any of them names them."""
    return input, p, training if train is None else train, inplace


def _alpha_dropout(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    x, drop_rate, training, _ = _arguments(*args, **kwargs)
    if training and not mode.dropout:
        return x
    if training and mode.dropout_site(drop_rate) is not None:
        raise ValueError(
            f"sites: {function.__name__} was called, whose noise is no mask that could be replaced; name the modules "
            "that don't call it, as in 'encoder:dropout', or use dropout."
        )
    return mode.call(function, args, kwargs)


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout), _dropout),
    **dict.fromkeys((F.alpha_dropout, F.feature_alpha_dropout), _alpha_dropout),
}

"""Handlers of the network's own dropout, as modules and as functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop.masking.mode import MaskingMode

# Dropout of whole channels, with the number of dimensions of a batched input; None for any.
_CHANNELS: dict[Callable[..., Any], int | None] = {
    F.dropout1d: 3,
    F.dropout2d: None,
    F.dropout3d: 5,
    torch.feature_dropout: None,
    torch.feature_dropout_: None,
}
_IN_PLACE = frozenset({torch.dropout_, torch.feature_dropout_, torch.alpha_dropout_, torch.feature_alpha_dropout_})


def _dropout(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, drop_rate, training, inplace = _arguments(*args, **kwargs)
    if not training:
        return mode.call(function, args, kwargs)
    if not mode.dropout:
        mode.check_computed_once("dropout=False: dropout")
        return _result(function, x)
    site = mode.dropout_site(drop_rate)
    if site is None:
        return mode.call(function, args, kwargs)
    rows, shape = _layout(function, x)
    if mode.keep_masks:
        mode.before_mask()  # the next run goes on from the random state before this draw
    noise = _noise(function, x, shape, drop_rate) if mode.keep_masks else None
    own = None if noise is None else (noise != 0).to(noise.dtype)
    told = not rows or isinstance(x, nn.Parameter) or x in mode.anchors  # the rows of a weight are no examples
    mask = mode.dropout_value_at(replace(site, units=math.prod(shape[rows:])), shape, x, own, told=told)
    if mask is not None:
        mode.before_mask()
        if noise is None:  # drawn all the same, so that later dropout gets the random numbers that it always gets
            _noise(function, x, shape, drop_rate)
        noise = mask
    if noise is None:
        return mode.call(function, args, kwargs)
    return _result(function, x.mul_(noise) if inplace or function in _IN_PLACE else x * noise, noise)


def _result(function: Callable[..., Any], output: Tensor, noise: Tensor | None = None) -> Any:
    """Return what the function returns; without noise nothing was dropped."""
    if function is not torch.native_dropout:
        return output
    return output, torch.ones_like(output, dtype=torch.bool) if noise is None else noise != 0


def _layout(function: Callable[..., Any], x: Tensor) -> tuple[int, tuple[int, ...]]:
    """Return the dimension with which the rows of a mask begin, and the mask's shape, an entry per unit or channel."""
    if function not in _CHANNELS:
        return int(x.dim() > 1), tuple(x.shape)
    rows = int(_CHANNELS[function] in {None, x.dim()})
    return rows, tuple(x.shape[: rows + 1]) + (1,) * (x.dim() - rows - 1)


def _noise(function: Callable[..., Any], x: Tensor, shape: tuple[int, ...], drop_rate: float) -> Tensor:
    """Draw the factors by which dropout multiplies ``x``."""
    if function in _CHANNELS:
        return torch.feature_dropout(x.new_ones(1, math.prod(shape)), drop_rate, True).view(shape)
    if function is torch.native_dropout:
        return torch.native_dropout(torch.ones_like(x), drop_rate, True)[0]
    # Of the activation's memory layout, which decides which element gets which random number.
    return F.dropout(torch.ones_like(x), drop_rate)


def _arguments(
    input: Tensor,  # noqa: A002 - torch's name
    p: float = 0.5,
    training: bool | None = True,
    inplace: bool = False,
    train: bool | None = None,
) -> tuple[Tensor, float, bool, bool]:
    """Return the arguments of any function of this file: input, probability, training, in place."""
    training = training if train is None else train
    return input, p, training is None or training, inplace  # None is True to `torch.native_dropout`


def _alpha_dropout(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    x, drop_rate, training, _ = _arguments(*args, **kwargs)
    if training and not mode.dropout:
        mode.check_computed_once("dropout=False: dropout")
        return x
    if training and mode.dropout_site(drop_rate) is not None:
        raise ValueError(
            f"sites: {function.__name__} was called, whose noise is no mask that could be replaced; name the modules "
            "that don't call it, as in 'encoder:dropout', or use dropout."
        )
    return mode.call(function, args, kwargs)


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys((F.dropout, torch.dropout, torch.dropout_, torch.native_dropout, *_CHANNELS), _dropout),
    **dict.fromkeys((F.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_), _alpha_dropout),
    **dict.fromkeys(
        (F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_), _alpha_dropout
    ),
}

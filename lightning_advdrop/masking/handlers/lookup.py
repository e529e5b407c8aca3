"""Embedding tables: whole words dropped, or something added to what was looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.masking.acting import Shift

if TYPE_CHECKING:
    from lightning_advdrop.masking.mode import MaskingMode


def _embedding(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    words, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight")
    padding = args[2] if len(args) > 2 else kwargs.get("padding_idx")
    if padding is not None:
        padding %= len(weight)  # from the end if negative
    return _look_up(mode, words, weight, padding, lambda: mode.call(function, args, kwargs))


def _torch_embedding(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    weight, words = _argument(args, kwargs, 0, "weight"), _argument(args, kwargs, 1, "indices")
    padding = args[2] if len(args) > 2 else kwargs.get("padding_idx", -1)
    return _look_up(mode, words, weight, None if padding < 0 else padding, lambda: mode.call(function, args, kwargs))


def _look_up(
    mode: MaskingMode, words: Tensor, weight: Tensor, padding: int | None, look_up: Callable[[], Tensor]
) -> Tensor:
    found = look_up()
    anchor = mode.anchor(weight, "embedding")
    if not mode.has(anchor):
        return found
    real = None if padding is None else (words != padding).unsqueeze(-1)
    acting = mode.meet(anchor, "embedding", (len(weight), 1), found, real=real)
    if acting is None:
        return found
    mode.before_mask()
    if isinstance(acting, Shift):
        return found + acting.value
    return found * F.embedding(words, acting)  # the same as a lookup in weight * mask, for the words at hand only


def _embedding_bag(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    weight = _argument(args, kwargs, 1, "weight")
    mask = mode.meet(mode.anchor(weight, "embedding"), "embedding", (len(weight), 1), weight)
    if mask is None:
        return mode.call(function, args, kwargs)
    mode.before_mask()
    masked = weight + mask.value if isinstance(mask, Shift) else weight * mask
    if len(args) > 1:
        return function(args[0], masked, *args[2:], **kwargs)
    return function(*args, **{**kwargs, "weight": masked})


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs[name]


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.embedding: _embedding,
    F.embedding_bag: _embedding_bag,
    torch.embedding: _torch_embedding,
}

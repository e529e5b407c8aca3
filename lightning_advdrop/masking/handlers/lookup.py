"""Handlers of embedding lookups: whole words dropped, or perturbed embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.masking.handlers.composing import composed
from lightning_advdrop.masking.mode import MaskingMode
from lightning_advdrop.masking.site_values import Perturbation


def _embedding(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    words, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight")
    padding = args[2] if len(args) > 2 else kwargs.get("padding_idx")
    if padding is not None:
        padding %= len(weight)  # from the end if negative
    return _look_up(mode, function, words, weight, padding, lambda: mode.call(function, args, kwargs))


def _torch_embedding(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    weight, words = _argument(args, kwargs, 0, "weight"), _argument(args, kwargs, 1, "indices")
    padding = args[2] if len(args) > 2 else kwargs.get("padding_idx", -1)
    padding = None if padding < 0 else padding
    return _look_up(mode, function, words, weight, padding, lambda: mode.call(function, args, kwargs))


def _look_up(
    mode: MaskingMode,
    function: Callable[..., Any],
    words: Tensor,
    weight: Tensor,
    padding: int | None,
    look_up: Callable[[], Tensor],
) -> Tensor:
    found = look_up()
    mode.recognise(function, weight, "weight")
    if not mode.has(weight):
        return found
    real = None if padding is None else (words != padding).unsqueeze(-1)
    value = mode.value_at(weight, "embedding", (len(weight), 1), found, real=real)
    if value is None:
        return found
    mode.before_mask()
    if isinstance(value, Perturbation):
        return found + value.value
    # As a lookup in weight * mask, for these words only. Not by F.embedding, in which the mode would see a site.
    kept: Tensor = value.index_select(0, words.flatten()).view(*words.shape, 1)
    return found * kept


class _Table(NamedTuple):
    """An embedding table with its masks applied; ``given`` is the one by which its site is recognised."""

    weight: Tensor
    given: Tensor


def _embedding_bag(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    weight = _argument(args, kwargs, 1, "weight")
    given = _Table(weight, weight)
    found = given if mode.inside else _masked_table(mode, given)
    if found is given:
        return mode.call(function, args, kwargs)
    with composed(_masked_table, found) as (masked, _):
        if len(args) > 1:
            return function(args[0], masked, *args[2:], **kwargs)
        return function(*args, **{**kwargs, "weight": masked})


def _masked_table(mode: MaskingMode, table: _Table) -> _Table:
    """Apply the mask or perturbation of this mode to a table; without one, return the table itself."""
    mode.recognise(F.embedding_bag, table.given, "weight")
    value = mode.value_at(table.given, "embedding", (len(table.weight), 1), table.weight)
    if value is None:
        return table
    mode.before_mask()
    weight = table.weight + value.value if isinstance(value, Perturbation) else table.weight * value
    return table._replace(weight=weight)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs[name]


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.embedding: _embedding,
    F.embedding_bag: _embedding_bag,
    torch.embedding: _torch_embedding,
}

"""Handlers of embedding lookups: whole words dropped, or perturbed embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop._torch_calls import arguments_of
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
    mode.anchors.recognise(function, weight, "weight")
    if weight not in mode.anchors:
        return found
    real = None if padding is None else (words != padding).unsqueeze(-1)
    value = mode.value_at(weight, "embedding", (len(weight), 1), found, real=real, batch_dim=None)
    if value is None:
        return mode.follow(found)
    mode.before_mask()
    if isinstance(value, Perturbation):
        return mode.follow(found + value.value)
    # As a lookup in weight * mask, for these words only. Not by F.embedding, in which the mode would see a site.
    kept: Tensor = value.index_select(0, words.flatten()).view(*words.shape, 1)
    return found * kept


class _Bags(NamedTuple):
    """A call of an embedding bag with what acts at its site.

    Attributes:
        weight: the table, under the masks.
        given: the table by which the site is recognised.
        number: the number of bags.
        added: the perturbations of the output, ``(B, E)``.
    """

    weight: Tensor
    given: Tensor
    number: int
    added: tuple[Tensor, ...] = ()


def _embedding_bag(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    arguments = arguments_of(F.embedding_bag, args, kwargs, "include_last_offset")
    offsets, words = arguments["offsets"], arguments["input"]
    count = len(words) if offsets is None else len(offsets) - arguments["include_last_offset"]
    given = _Bags(arguments["weight"], arguments["weight"], count)
    found = given if mode.inside else _at_bags(mode, given)
    if found is given:
        return mode.call(function, args, kwargs)
    with composed(_at_bags, found) as bags:
        return sum(bags.added, function(**{**arguments, "weight": bags.weight}))


def _at_bags(mode: MaskingMode, bags: _Bags) -> _Bags:
    """Apply the mask of this mode to a table, or its perturbation to the bags; without one, return what is given."""
    mode.anchors.recognise(F.embedding_bag, bags.given, "weight")
    output = bags.weight.detach()[:1].expand(bags.number, -1)
    value = mode.value_at(bags.given, "embedding", (len(bags.weight), 1), output, batch_dim=None)
    if value is None:
        return bags
    mode.before_mask()
    if isinstance(value, Perturbation):
        return bags._replace(added=(*bags.added, value.value))
    return bags._replace(weight=bags.weight * value)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs[name]


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.embedding: _embedding,
    F.embedding_bag: _embedding_bag,
    torch.embedding: _torch_embedding,
}

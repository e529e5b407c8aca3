"""Handlers of recurrent cells, which have the same mask at each step of a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from lightning_advdrop.masking.handlers.composing import composed
from lightning_advdrop.masking.handlers.recurrent import under_weight_mask
from lightning_advdrop.masking.mode import MaskingMode
from lightning_advdrop.nn import CELL_FUNCTIONS, LayerWeights, masked_cell


class _Step(NamedTuple):
    """One step of a cell, with the masks to apply; ``anchor`` is the weight by which its sites are recognised."""

    function: Callable[..., Any]
    hidden: Tensor
    weights: LayerWeights
    anchor: Tensor
    mask: Tensor | None = None


def _cell(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, hx, *flat = args
    given = _Step(function, hx if isinstance(hx, Tensor) else hx[0], LayerWeights(*flat), flat[1])
    found = given if mode.inside else _add_masks(mode, given)
    if found is given:
        return mode.call(function, args, kwargs)
    with composed(_add_masks, found) as (_, _, weights, _, mask):
        args = (x, hx, *weights[:4])
        return function(*args) if mask is None else masked_cell(function, args, mask)


def _add_masks(mode: MaskingMode, step: _Step) -> _Step:
    """Add the masks of this mode to a step; without any, return the step itself."""
    mode.anchors.recognise(step.function, step.anchor, "weight_hh")
    if step.anchor not in mode.anchors:
        return step
    value = mode.value_at(step.anchor, "recurrent", tuple(step.hidden.shape), step.hidden)
    weights = under_weight_mask(mode, step.weights, step.anchor)
    if value is None and weights is step.weights:
        return step
    mode.before_mask()
    return step._replace(weights=weights, mask=mode.times(step.mask, value))


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = dict.fromkeys(CELL_FUNCTIONS, _cell)

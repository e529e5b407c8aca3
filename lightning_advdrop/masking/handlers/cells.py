"""Recurrent cells that a model's own loop calls step by step: the same mask at each step of a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_advdrop.masking.handlers.recurrent import under_weight_mask
from lightning_advdrop.nn import CELL_FUNCTIONS, LayerWeights, masked_cell

if TYPE_CHECKING:
    from lightning_advdrop.masking.mode import MaskingMode


def _cell(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, hx, *flat = args
    if not mode.has(flat[1]):
        return mode.call(function, args, kwargs)
    h = hx if isinstance(hx, Tensor) else hx[0]
    mask = mode.meet(flat[1], "recurrent", tuple(h.shape), h)
    weights = under_weight_mask(mode, LayerWeights(*flat))
    if mask is None and weights.weight_hh is flat[1]:
        return mode.call(function, args, kwargs)
    mode.before_mask()
    args = (x, hx, *weights[:4])
    return function(*args) if mask is None else masked_cell(function, args, mask)


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = dict.fromkeys(CELL_FUNCTIONS, _cell)

"""Handlers of dropout that a network draws itself at sites of other kinds, where a mask replaces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lightning_advdrop.masking.mode import MaskingMode
from lightning_advdrop.nn import draw_noise, masked_weight, own_noise
from lightning_advdrop.nn.own_dropout import drop_ones, ones_to_drop


def _own_noise(
    mode: MaskingMode,
    function: Callable[..., Any],  # noqa: ARG001 - as all handlers
    args: tuple[Any, ...],
    kwargs: dict[str, Any],  # noqa: ARG001
) -> Any:
    shape, p, places, activation = args
    if not mode.dropout:
        mode.check_computed_once("dropout=False: dropout")
        return None
    masked = [mode.masks(place.anchor, place.kind, tuple(shape), activation, p) for place in places]
    if any(masked):
        mode.before_mask()
        draw_noise(shape, p, activation)  # all the same, so that later dropout gets the numbers that it always gets
        return None
    mode.rows = "examples" if len(shape) == 3 else "weights"  # (B, 1, D), or rows of a weight or table
    ones = ones_to_drop(shape, activation)  # not seen, so that no later run is handed them back, and they are freed
    try:
        with mode:  # to see the dropout that is called
            return drop_ones(ones, shape, p)
    finally:
        mode.rows = "unknown"


def _masked_weight(
    mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    product: Tensor = mode.call(function, args, kwargs)
    mode.anchors.register_alias(product, args[0])
    return product


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {own_noise: _own_noise, masked_weight: _masked_weight}

"""Handlers of packing, which show how many rows each step of packed sequences has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_advdrop import _torch
from lightning_advdrop.masking.mode import MaskingMode


def _pack(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = mode.call(function, args, kwargs)
    mode.evidence.packed.add(tuple(result[1].tolist()))
    return result


def _unpack(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    mode.evidence.packed.add(tuple(args[1].tolist()))
    return mode.call(function, args, kwargs)


_PACKING, _PADDING = _torch.packing_functions()
HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys(_PACKING, _pack),
    **dict.fromkeys(_PADDING, _unpack),
}

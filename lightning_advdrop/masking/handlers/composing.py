"""Compose the masks of nested modes at one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch.overrides import handle_torch_function, has_torch_function

from lightning_advdrop.masking.mode import MaskingMode

_Call = TypeVar("_Call")
# Adds the masks of one mode to a call.
AddMasks = Callable[[MaskingMode, _Call], _Call]


@contextmanager
def composed(add: AddMasks[_Call], call: _Call) -> Iterator[_Call]:
    """Collect the masks of all active modes for one call, and keep the other modes out of its parts.

    A call under masks is made in parts, in which the modes below would not recognise their sites.

    Args:
        add: adds the masks of one mode to a call.
        call: the call, with the masks of the mode that handles it.

    Yields:
        The call with the masks of all modes.
    """
    with ExitStack() as handled:
        yield _compose(add, call, handled)


def _compose(add: AddMasks[_Call], call: _Call, handled: ExitStack) -> _Call:
    """Send a call through the active modes as torch does with a function, and return it with their masks."""
    nothing = (torch.empty(0),)
    if has_torch_function(nothing):
        dispatched: Callable[..., Any] = _compose
        result: _Call = handle_torch_function(dispatched, nothing, add, call, handled)
        return result
    return call


def _composed(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ARG001
    add, call, handled = args
    call = add(mode, call)
    handled.enter_context(mode.handled())
    return _compose(add, call, handled)


def begin_among_others() -> bool:
    """End the reusable part of this run in all active modes, and tell whether there are any.

    A mode that is entered above them may apply masks that later runs don't have.
    """
    nothing = (torch.empty(0),)
    return bool(has_torch_function(nothing) and handle_torch_function(begin_among_others, nothing))


def _begun(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ARG001
    mode.stop_prefix()
    begin_among_others()
    return True


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {_compose: _composed, begin_among_others: _begun}

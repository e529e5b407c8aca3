"""Compose the masks of nested modes at one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch.overrides import handle_torch_function, has_torch_function

from lightning_advdrop.masking.mode import MaskingMode

_Call = TypeVar("_Call")
# Adds what acts in one mode to a call.
AddMasks = Callable[[MaskingMode, _Call], _Call]


@contextmanager
def composed(add: AddMasks[_Call], call: _Call) -> Iterator[_Call]:
    """A context in which a call runs under what the modes below the one that handles it have act in it, too.

    A call that runs under masks is another one, at which they would not find their sites. Used by handlers; in the
    context, the other modes leave the parts of the call alone.

    Args:
        add: adds what acts in one mode.
        call: the call, with what acts in the mode that handles it.
    """
    with ExitStack() as handled:
        yield _compose(add, call, handled)


def _compose(add: AddMasks[_Call], call: _Call, handled: ExitStack) -> _Call:
    """Goes through the modes as every function does, and returns what is left of the call."""
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
    """Ends what the modes that are on can hand back from this run, and says whether there are any.

    A mode that is entered above them may have something act that later runs do not have.
    """
    nothing = (torch.empty(0),)
    return bool(has_torch_function(nothing) and handle_torch_function(begin_among_others, nothing))


def _begun(mode: MaskingMode, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ARG001
    mode.stop_prefix()
    begin_among_others()
    return True


HANDLERS: dict[Callable[..., Any], Callable[..., Any]] = {_compose: _composed, begin_among_others: _begun}

"""What the function mode does with the torch functions at which masks act: a table, and a file for each family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning_advdrop.masking.handlers import attention, cells, composing, dropout, lookup, own_dropout, recurrent

Handler = Callable[..., Any]

#: For each function, what is called in its place: ``handler(mode, function, args, kwargs)``.
HANDLERS: Mapping[Callable[..., Any], Handler] = {
    **recurrent.HANDLERS,
    **cells.HANDLERS,
    **lookup.HANDLERS,
    **dropout.HANDLERS,
    **attention.HANDLERS,
    **composing.HANDLERS,
    **own_dropout.HANDLERS,
}

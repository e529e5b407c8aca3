"""Handlers of the torch functions in which masks act, one file for each family."""

from __future__ import annotations

from lightning_advdrop.masking.handlers import (
    attention,
    cells,
    composing,
    dropout,
    lookup,
    own_dropout,
    packing,
    recurrent,
)
from lightning_advdrop.masking.mode import Handlers

HANDLERS: Handlers = {
    **recurrent.HANDLERS,
    **cells.HANDLERS,
    **lookup.HANDLERS,
    **dropout.HANDLERS,
    **attention.HANDLERS,
    **composing.HANDLERS,
    **own_dropout.HANDLERS,
    **packing.HANDLERS,
}

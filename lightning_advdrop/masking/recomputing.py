"""Parts of a forward that torch runs again in the backward pass, where no mask acts."""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

_CHECKPOINT = inspect.unwrap(checkpoint).__code__


def in_checkpoint() -> bool:
    """Whether the code that is running was called by `torch.utils.checkpoint.checkpoint`, of either variant."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CHECKPOINT:
            return True
        frame = frame.f_back
    return False


def recomputes() -> bool:
    """Whether what is computed now will be computed again in the backward pass; quick, but not for all variants."""
    hooks: Any = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return bool(hooks is not None and hooks[0].__module__ == checkpoint.__module__)


def refuse_checkpoint(what: str) -> None:
    """Checks that something is computed once.

    Args:
        what: what the message begins with.

    Raises:
        ValueError: inside activation checkpointing.

    Example:
        >>> refuse_checkpoint("sites: lstm.l0:recurrent")
    """
    if in_checkpoint():
        raise ValueError(
            f"{what} is reached inside activation checkpointing (torch.utils.checkpoint), which runs this part again "
            "in the backward pass, as it is: without masks, and with dropout. Switch checkpointing off there, or name "
            "other sites."
        )

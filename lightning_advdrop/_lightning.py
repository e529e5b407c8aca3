"""Every touch of Lightning that its documentation doesn't promise, one function for each.

Each function first does what is public, or has a fallback, or raises an error that names the release it was tried with.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer


def attached_trainer(pl_module: LightningModule) -> Trainer | None:
    """Return the trainer that a module is attached to; None if there is none, and under Fabric.

    Args:
        pl_module: a module of `lightning.pytorch` or of `pytorch_lightning`.

    Example:
        >>> attached_trainer(LightningModule()) is None
        True
    """
    if pl_module.fabric is not None:  # `trainer` would be a stand-in with few of a trainer's attributes
        return None
    try:
        trainer: Any = pl_module.trainer
    except RuntimeError:  # how `trainer` says that there is none
        return None
    return trainer

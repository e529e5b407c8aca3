"""The gradients of the step before, which nothing needs any more while a step makes further passes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule
from torch.optim import Optimizer

from lightning_advdrop._lightning import attached_trainer, is_overridden, trainer_callbacks


def free_stale_gradients(pl_module: LightningModule) -> None:
    """Free the gradients of the step before, where nothing looks at them before Lightning does the same.

    Lightning sets them to None between ``training_step`` and the backward pass. Until then they would be in memory
    beside those of this step, and beside what other passes need. They are kept where gradients are accumulated, and
    where a hook or an optimizer of the user's has a say in it.

    Args:
        pl_module: the module that is trained.
    """
    for optimizer in _clearing_next(pl_module):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def _clearing_next(pl_module: LightningModule) -> list[Any]:
    """Return the optimizers whose gradients Lightning sets to None as soon as the training step returns, unseen."""
    trainer = attached_trainer(pl_module)
    if trainer is None or trainer.accumulate_grad_batches != 1 or is_overridden(pl_module, "optimizer_zero_grad"):
        return []
    if any(is_overridden(each, "on_before_zero_grad") for each in (pl_module, *trainer_callbacks(trainer))):
        return []
    return [each for each in trainer.optimizers if _clears_as_torch(each)]


def _clears_as_torch(optimizer: Any) -> bool:
    return getattr(type(optimizer), "zero_grad", None) is Optimizer.zero_grad and "zero_grad" not in vars(optimizer)

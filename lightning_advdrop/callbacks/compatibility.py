"""Refuse settings of Lightning that the callbacks can't work with, and warn of others, under both package names."""

from __future__ import annotations

import inspect
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_advdrop._lightning import trainer_callbacks

# Strategies that keep only a part of each weight in a process, or run the passes in an engine of their own.
_REFUSED_STRATEGIES = frozenset({"FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy"})
# Callbacks that search, and how to take what they find.
_FINDERS = {
    "LearningRateFinder": "Take its suggestion as that of plain training",
    "BatchSizeFinder": "A step with a penalty may need more memory; take half of the size that it finds",
}


def check_trainable(callback: Callback, trainer: Trainer, pl_module: LightningModule) -> None:
    """Refuse manual optimization and sharded weights, for a callback that runs forward passes of its own.

    Raises:
        MisconfigurationException: under manual optimization, or with a strategy that shards the weights.
    """
    if not pl_module.automatic_optimization:
        raise misconfigured(
            trainer,
            f"{type(callback).__name__} adds to the loss that training_step returns, which is not used under manual "
            f"optimization; {type(pl_module).__name__} has automatic_optimization=False, and needs True. Or call the "
            "regularizer itself in training_step, without the callback: base, penalty = regularizer(lambda: self(x), "
            "self, sites=..., target=y), and add the penalty to the loss that manual_backward gets.",
        )
    refuse_sharded(callback, trainer)


def check_both_losses(callback: Any, pl_module: LightningModule) -> None:
    """Refuse what can't work where the training step runs once more for the loss of another pass.

    Args:
        callback: a callback with a regularizer.
        pl_module: the module that is trained.

    Raises:
        ValueError: if the step takes batches itself.
    """
    if not callback.regularizer.both_losses:
        return
    if "dataloader_iter" in inspect.signature(pl_module.training_step).parameters:
        raise ValueError(
            "both_losses=True runs training_step once more on the same batch, got a training_step that takes batches "
            "from dataloader_iter itself; let it take a batch, or set both_losses=False."
        )


def warn_of_finders(trainer: Trainer) -> None:
    """Warn of callbacks of Lightning that search a learning rate or batch size: they train without other callbacks.

    Its ``Tuner`` searches by means of the same callbacks.
    """
    names = {base.__name__ for each in trainer_callbacks(trainer) for base in type(each).__mro__}
    for finder, found in _FINDERS.items():
        if finder in names:
            rank_zero_warn(
                f"callbacks: got {finder} beside a regularizer; Lightning takes all callbacks away while it searches, "
                f"so that it trains without the penalty. {found}."
            )


def refuse_sharded(callback: Callback, trainer: Trainer, why: str = "runs forward passes of its own") -> None:
    """Refuse a trainer whose strategy shards the weights, for a callback that does ``why`` with all of them.

    Raises:
        MisconfigurationException: with such a strategy.
    """
    refused = sorted(_REFUSED_STRATEGIES & {base.__name__ for base in type(trainer.strategy).__mro__})
    if refused:
        raise misconfigured(
            trainer,
            f"{type(callback).__name__} {why}, for which each process must hold all weights; got "
            f"strategy={refused[0]}, which shards them. Use 'auto' or 'ddp'.",
        )


def misconfigured(trainer: Any, message: str) -> Exception:
    """Make the exception of the trainer's own package: each of the two has one, unrelated to the other's."""
    if any(base.__module__.startswith("pytorch_lightning.") for base in type(trainer).__mro__):
        from lightning_fabric.utilities.exceptions import MisconfigurationException as Standalone

        return Standalone(message)
    return MisconfigurationException(message)

"""Log what a regularizer finds."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_advdrop._lightning import trainer_callbacks
from lightning_advdrop.callbacks.own_metrics import log_own, own_name
from lightning_advdrop.regularizers import Penalty


class PenaltyMetrics(Callback):
    """A callback that logs penalties: means over each epoch, and values of single steps."""

    #: Before the slash in the names of the metrics: the regularizer's, unless a subclass or the user sets another;
    #: ``_2`` follows where a callback before it has the same one.
    log_prefix: str
    log_every_n_steps: int | None
    _of_step: tuple[int, dict[str, Tensor | float]] = 0, {}

    def log_penalty(
        self,
        pl_module: LightningModule,
        weight: float,
        penalty: Penalty | None,
        batch_size: int,
        skipped: int | None = None,
    ) -> None:
        """Log the weight, the divergence and the regularizer's own metrics: means over the epoch, and steps.

        Args:
            pl_module: the module that is trained.
            weight: the weight of this step.
            penalty: the penalty, None where there were no passes.
            batch_size: the number of examples.
            skipped: the number of steps of this epoch whose penalty was left out; None where none may be.
        """
        values: dict[str, Tensor | float] = {"weight": weight}
        if penalty is not None:
            values |= {"divergence": penalty.value.detach(), **penalty.metrics}
        named = {f"{self._numbered_prefix(pl_module.trainer)}/{name}": value for name, value in values.items()}
        log_own(pl_module, named, on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True)
        of_step = {f"{name}_step": value for name, value in named.items()}
        if self.log_every_n_steps is None:
            log_own(pl_module, of_step, on_step=True, on_epoch=False, batch_size=batch_size)
        self._of_step = pl_module.trainer.global_step, of_step
        if skipped is not None:  # a count so far, the same in all processes
            count = {f"{self._numbered_prefix(pl_module.trainer)}/skipped": float(skipped)}
            log_own(pl_module, count, on_step=False, on_epoch=True, reduce_fx="max", batch_size=1, sync_dist=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the metrics of a step, where that is not left to the trainer.

        Of batches whose gradients are accumulated, the last one stands for the step, as in Lightning's own logs.
        """
        (step, values), self._of_step = self._of_step, (0, {})
        if self.log_every_n_steps is None or step % self.log_every_n_steps or trainer.global_step == step:
            return
        for logger in trainer.loggers if values else []:
            logger.log_metrics({own_name(pl_module, name): float(value) for name, value in values.items()}, step=step)

    def _numbered_prefix(self, trainer: Trainer) -> str:
        others = [each for each in trainer_callbacks(trainer) if isinstance(each, PenaltyMetrics)]
        number = [each for each in others if each.log_prefix == self.log_prefix].index(self) + 1
        return self.log_prefix if number == 1 else f"{self.log_prefix}_{number}"

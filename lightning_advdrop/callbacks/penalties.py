"""The mean penalty of a step, and what happens where it is NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_advdrop.regularizers import Penalty

Nonfinite = Literal["raise", "skip"]


def mean_penalty(penalties: Sequence[Penalty]) -> Penalty:
    """Compute the mean of the penalties of several passes, and of their metrics.

    Args:
        penalties: at least one.

    Example:
        >>> mean_penalty([Penalty(torch.tensor(1.0), {"share": 0.0}), Penalty(torch.tensor(2.0), {"share": 1.0})])
        Penalty(value=tensor(1.5000), metrics={'share': tensor(0.5000)}, supervised=None, masks={})
    """
    value = torch.stack([penalty.value for penalty in penalties]).mean()
    names = penalties[0].metrics
    metrics = {name: torch.stack([torch.as_tensor(each.metrics[name]) for each in penalties]).mean() for name in names}
    losses = [penalty.supervised for penalty in penalties if penalty.supervised is not None]
    return Penalty(value, metrics, torch.stack(losses).mean() if losses else None)


class NonfinitePenalties(Callback):
    """A callback whose penalty may be NaN or infinite, which ends the training, or is left out of the step."""

    nonfinite: Nonfinite
    #: The number of this epoch's steps without a penalty, as it was NaN or infinite.
    skipped: int = 0
    _warned: bool = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps of this epoch from 0."""
        self.skipped = 0

    def finite(self, trainer: Trainer, compute: Callable[[], Penalty]) -> Penalty | None:
        """Compute a penalty; None where it is left out. With several processes, all leave it out if one does.

        Args:
            trainer: the trainer.
            compute: computes the penalty.

        Raises:
            FloatingPointError: if the penalty or a prediction is NaN or infinite, unless it is left out then.
        """
        found, problem = None, None
        try:
            found = compute()
        except FloatingPointError as error:
            problem = error
        place = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        if self.nonfinite == "raise":
            if problem is None:
                return found
            raise FloatingPointError(
                f"{problem} It happened to {type(self).__name__} in {place}; nonfinite='skip' leaves the penalty out "
                "of such a step."
            ) from problem
        # Processes that log other metrics than the rest would wait for each other.
        if trainer.strategy.reduce_boolean_decision(problem is None, all=True):
            return found
        if not self._warned:
            self._warned = True
            reason = "in another process" if problem is None else str(problem)
            rank_zero_warn(f"{type(self).__name__} leaves the penalty out of {place}, and counts such steps: {reason}")
        self.skipped += 1
        return None

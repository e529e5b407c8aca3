"""Average the weights from when the validation loss no longer falls."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_advdrop._lightning import state_key
from lightning_advdrop._ranges import check_range
from lightning_advdrop.callbacks.averaging import AveragedWeights
from lightning_advdrop.callbacks.compatibility import misconfigured

Mode = Literal["min", "max"]


class NonMonotonicAveraging(AveragedWeights):
    """Average the weights of every step once the validation loss stalls: non-monotonically triggered averaged SGD.

    After each validation, the monitored value is compared with the earlier ones. If it is above the minimum of all but
    the last ``nonmono`` of them, averaging begins, with equal weights for all steps from then on. Before that, nothing
    is copied: training, evaluation and checkpoints are as without this callback. Afterwards, validation, the
    checkpoints' ``state_dict`` and the weights after the fit are the average, while the raw weights are trained on.
    Any optimizer will do; with SGD this is averaged SGD.

    For fine-tuning, ``from_start=True`` averages from the first step, and ``stop=True`` ends the run when the value
    stalls again while weights are averaged. Values before the trigger are those of raw weights and do not count.

    Logs ``averaging/triggered`` once an epoch: 0 before averaging began, then 1. Checkpoints hold the whole state, so
    that a resumed run is the same as one that was never interrupted, with one exception: Lightning resumes a checkpoint
    that was saved between the last step of an epoch and its validation without that validation.

    Source: Merity, Keskar & Socher, "Regularizing and Optimizing LSTM Language Models", ICLR 2018 (arXiv 1708.02182),
    section 4, and algorithm 1.

    Args:
        nonmono: the number of latest values that do not count, at least 1.
        monitor: the name of a metric that is logged in validation.
        mode: ``min`` for a loss; ``max`` for a metric that is to grow.
        from_start: whether averaging begins at once.
        stop: whether the run ends when the value stalls while weights are averaged.
        device: where the average is kept; None for the model's device.
        use_buffers: whether buffers of real or complex numbers are averaged as well; otherwise all are the model's.

    Raises:
        ValueError: if ``nonmono`` is below 1, or ``mode`` is unknown; in the fit, if validation logs no ``monitor``.

    Example:
        >>> averaging = NonMonotonicAveraging(nonmono=2)
        >>> [averaging.observe(loss) for loss in (5.0, 4.0, 4.2, 4.1, 4.3)]
        [False, False, False, False, True]
    """

    def __init__(
        self,
        nonmono: int = 60,
        monitor: str = "val/loss",
        mode: Mode = "min",
        from_start: bool = False,
        stop: bool = False,
        device: str | int | None = None,
        use_buffers: bool = True,
    ) -> None:
        super().__init__(device, use_buffers)
        check_range("at least 1", nonmono=nonmono)
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}.")
        self.nonmono = nonmono
        self.monitor = monitor
        self.mode: Mode = mode
        self.from_start = from_start
        self.stop = stop
        #: Whether the weights of each step are averaged.
        self.averaging = from_start
        self._values: list[float] = []

    def observe(self, value: float) -> bool:
        """Remember a monitored value; return whether it has stalled.

        Args:
            value: the value; NaN counts as the worst of all.
        """
        value = value if self.mode == "min" else -value
        value = math.inf if math.isnan(value) else value
        earlier = self._values[: max(0, len(self._values) - self.nonmono)]
        self._values.append(value)
        return bool(earlier) and value > min(earlier)

    def should_update(self, step_idx: int) -> bool:
        """Return True after every step while weights are averaged."""
        return self.averaging

    # Lightning's hooks.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't work, and start afresh."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        if self._tests and not trainer.enable_validation:
            raise misconfigured(
                trainer,
                f"{type(self).__name__} decides by {self.monitor!r} of each validation, and this trainer has none; "
                "give validation data and a validation_step, and limit_val_batches above 0.",
            )
        self.averaging, self._values = self.from_start, []

    @property
    def _tests(self) -> bool:
        """Tell whether a stalled value still has an effect."""
        return self.stop or not self.averaging

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to average, or end the run, if the value has stalled."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not self._tests:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ValueError(
                f"monitor must be a metric that is logged in validation, got {self.monitor!r}; logged are "
                f"{', '.join(sorted(trainer.callback_metrics)) or 'none'}."
            )
        # All processes are to decide alike, also where each has logged a value of its own.
        value = trainer.strategy.broadcast(float(trainer.callback_metrics[self.monitor]))
        if not self.observe(value):
            return
        place = f"step {trainer.global_step} (epoch {trainer.current_epoch})"
        reason = (
            f"{self.monitor}={value:.6g} is worse than the best of all but the last {self.nonmono} values before it"
        )
        if self.averaging:
            trainer.should_stop = True
            rank_zero_info(f"{type(self).__name__} ends the run at {place}: {reason}.")
        else:
            self.averaging, self._values = True, []
            rank_zero_info(f"{type(self).__name__} averages the weights from {place} on: {reason}.")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log whether weights are averaged."""
        pl_module.log("averaging/triggered", float(self.averaging))

    @property
    def state_key(self) -> str:
        """Name the state by what is monitored."""
        return state_key(self, monitor=self.monitor, mode=self.mode)

    def state_dict(self) -> dict[str, Any]:
        """Return whether weights are averaged, and the values that were seen."""
        return {**super().state_dict(), "averaging": self.averaging, "values": list(self._values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.averaging, self._values = state_dict["averaging"], list(state_dict["values"])

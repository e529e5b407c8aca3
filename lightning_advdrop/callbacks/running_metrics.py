"""Resume a run within an epoch with what the epoch's metrics have seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from lightning_advdrop._lightning_metrics import add_to_epoch_mean, epoch_means, logged_metrics
from lightning_advdrop.callbacks.processes import of_every_process
from lightning_advdrop.callbacks.shown import ShownWithArguments

# As a whole word of a metric's path, with or without a number: `value_loss` is of training.
_OTHER_STAGE = re.compile(r"(?:^|[._/])(?:val|valid|validation|test)\d*(?:$|[._/])")


class RunningMetrics(ShownWithArguments, Callback):
    """Save what the metrics of a training epoch have seen so far in checkpoints.

    Lightning does not save it: the means of an epoch within which a run was resumed would be those of the batches after
    the resume. With this callback they are those of the whole epoch. It keeps what is logged with ``on_epoch=True`` in
    training, and the torchmetrics of the module but those that only validation logs and those that are named after
    validation or test and not logged in training; each of several processes gets its own back.

    Example:
        >>> trainer = Trainer(callbacks=RunningMetrics(), logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self) -> None:
        self._means: dict[str, Any] = {}
        self._loaded: Mapping[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget what was loaded before and not used."""
        self._means, self._loaded = {}, None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what the metrics of every process have seen."""
        logged, parts = logged_metrics(trainer), pl_module.named_modules()
        metrics = {name: _state(part) for name, part in parts if is_of_training(name, part, logged)}
        own = {"means": epoch_means(trainer), "metrics": metrics}
        checkpoint["callbacks"][self.state_key] = {"processes": of_every_process(trainer, own)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
        """Keep this process's part until the first batch."""
        states = checkpoint.get("callbacks", {}).get(self.state_key, {}).get("processes", [])
        if trainer.state.fn == "fit" and trainer.world_size == len(states):
            self._loaded = states[trainer.global_rank]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Restore the torchmetrics before the first batch of a run that was resumed within an epoch."""
        loaded, self._loaded = self._loaded, None
        if loaded is None or batch_idx == 0:
            return
        self._means = dict(loaded["means"])
        for name, part in pl_module.named_modules():
            if isinstance(part, Metric) and name in loaded["metrics"]:
                for state, value in loaded["metrics"][name].items():
                    setattr(part, state, value.to(part.device) if isinstance(value, Tensor) else value)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the means before the resume to those of the first batch after it."""
        self._means = {
            name: state for name, state in self._means.items() if not add_to_epoch_mean(trainer, name, state)
        }

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget means of what was not logged again."""
        self._means = {}


def is_of_training(name: str, part: Any, logged: Mapping[int, bool]) -> bool:
    """Tell whether a part is a metric of training that has seen something.

    Args:
        name: its path in the module, which decides for a metric that has not been logged: ``val``, ``valid``,
            ``validation`` and ``test`` are words of other stages.
        part: a part of the module.
        logged: what `logged_metrics` returned.
    """
    if not isinstance(part, Metric) or not part.update_called:
        return False
    return logged.get(id(part), _OTHER_STAGE.search(name) is None)


def _state(metric: Any) -> dict[str, Any]:
    return {
        name: value.detach().cpu() if isinstance(value, Tensor) else [each.detach().cpu() for each in value]
        for name, value in metric.metric_state.items()
    }

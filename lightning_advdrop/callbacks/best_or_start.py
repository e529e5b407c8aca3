"""Save the best weights of a fit, those that it starts from among them."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_advdrop.callbacks.compatibility import misconfigured
from lightning_advdrop.callbacks.shown import ShownWithArguments


class BestOrStartCheckpoint(ShownWithArguments, ModelCheckpoint):
    """Save the best weights, of which the start weights are the first, for fine-tuning.

    Lightning's `ModelCheckpoint` compares the weights of the validations within a fit, so that fine-tuning ends with
    worse weights than it started from where nothing is better. This one takes the whole validation before the fit into
    account, for which the trainer needs ``num_sanity_val_steps=-1``. A resumed fit goes on with the values of its
    checkpoint.

    Its arguments are those of `ModelCheckpoint`; ``monitor`` must be given.

    Raises:
        MisconfigurationException: when the fit begins, if there is no ``monitor``, or the trainer does not validate
            everything before the fit.
        ValueError: in the fit, if validation logs no such metric.

    Example:
        >>> BestOrStartCheckpoint(monitor="val/loss", filename="best").mode
        'min'
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, and refuse a trainer that does not validate the start weights."""
        super().setup(trainer, pl_module, stage=stage)
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        name = type(self).__name__
        if self.monitor is None:
            raise misconfigured(trainer, f"{name} needs the name of a metric as monitor, got None.")
        if trainer.num_sanity_val_steps != math.inf:
            raise misconfigured(
                trainer,
                f"{name} compares with the start weights, whose whole validation needs num_sanity_val_steps=-1, got "
                f"{trainer.num_sanity_val_steps}; set it in the trainer.",
            )

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the start weights as the best so far."""
        resumed = self.best_model_path or trainer.global_step > 0
        if resumed or trainer.fast_dev_run or self.save_top_k == 0:  # type: ignore[attr-defined]
            return
        assert self.monitor is not None
        metrics = {**trainer.callback_metrics, "epoch": torch.tensor(0), "step": torch.tensor(0)}
        if self.monitor not in metrics:
            raise ValueError(
                f"monitor must be a metric that is logged in validation, got {self.monitor!r}; logged are "
                f"{', '.join(sorted(trainer.callback_metrics)) or 'none'}."
            )
        score = metrics[self.monitor]
        if score.isnan():
            score = torch.full_like(score, math.inf if self.mode == "min" else -math.inf)
        path, version = self.format_checkpoint_name(metrics), self.STARTING_VERSION
        while self.file_exists(path, trainer):
            path, version = self.format_checkpoint_name(metrics, ver=version), version + 1
        best: dict[str, Any] = {"best_model_score": score, "best_model_path": path, "best_k_models": {path: score}}
        self.load_state_dict({**self.state_dict(), **best, "kth_best_model_path": path, "kth_value": score})
        trainer.save_checkpoint(path, self.save_weights_only)

"""One run: fit a model, report its validation metric, and test it."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_advdrop._lightning import forget_average, trainer_callbacks
from lightning_advdrop._suggestions import did_you_mean
from lightning_advdrop.tuning.errors import TuneError
from lightning_advdrop.tuning.settings import Parts, Settings

Report = Callable[[int, float, float], None]


@dataclass
class Watch(Callback):
    """Keep the best value of the validation metric, time the steps, and report each value.

    Args:
        metric: its name.
        mode: ``min`` or ``max``.
        report: called with the number of the validation, the value, and the share of the training that is over; may
            raise to end the run.
    """

    metric: str
    mode: str
    report: Report | None = None
    best: float | None = None
    validations: int = 0
    steps: list[float] = field(default_factory=list)
    _started: float = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Start the clock."""
        self._started = _now(pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Stop the clock."""
        self.steps.append(_now(pl_module) - self._started)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Look at the metric.

        Raises:
            TuneError: if the validation logs no such metric.
        """
        stop_if_orphaned()
        if trainer.sanity_checking:
            return
        value = logged(trainer, "metric", self.metric)
        self.validations += 1
        better = self.best is None or (value < self.best if self.mode == "min" else value > self.best)
        if math.isfinite(value):
            self.best = value if better else self.best
            if self.report is not None:
                self.report(self.validations, value, self._share(trainer))

    def _share(self, trainer: Trainer) -> float:
        """The share of the training that is over; 0 where nothing tells when it ends."""
        by_steps = trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0
        if trainer.max_epochs is None or trainer.max_epochs <= 0:
            return by_steps
        batches = trainer.num_training_batches
        # Batches, since a module may step several optimizers in each, or one in several.
        epochs = len(self.steps) / batches if math.isfinite(batches) else trainer.current_epoch + 1
        return max(by_steps, epochs / trainer.max_epochs)


def _now(module: LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)  # or what has only been asked for would take no time
    return time.perf_counter()


def logged(trainer: Trainer, argument: str, metric: str) -> float:
    """Return the value of a metric that a trainer has logged.

    Raises:
        TuneError: if there is none.
    """
    found = trainer.callback_metrics
    if metric not in found:
        names = sorted(map(str, found))
        raise TuneError(
            f"{argument} must be one that is logged: {', '.join(names) or 'none is'}; got {metric!r}"
            f"{did_you_mean(metric, names)}"
        )
    return float(found[metric])


def stop_if_orphaned() -> None:
    """End a process whose parent was killed; its run is made again later."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        # Not an exception: the pool would go on to wait for work from its parent.
        os._exit(1)


def run_once(parts: Parts, settings: Settings, folder: Path, report: Report | None, *, test: bool) -> dict[str, Any]:
    """Fit, and test the weights of the best validation.

    Args:
        parts: the objects of the run.
        settings: of the search.
        folder: for the checkpoint, which is deleted at the end.
        report: see `Watch`.
        test: whether to test, where module and data can.

    Returns:
        The best ``value``, the ``test`` value and the ``test_metric`` that it is of, or None, the ``seconds`` of the
        fit, the median ``step_seconds`` and the number of ``steps``.

    Raises:
        TuneError: if a metric isn't logged, or the trainer has several devices.
        FloatingPointError: if the metric was never finite.
    """
    trainer = parts.trainer
    if trainer.world_size > 1:
        raise TuneError(f"trainer must have one device for each run, got {trainer.world_size}; use jobs instead.")
    if getattr(trainer, "fast_dev_run", False):
        raise TuneError("trainer.fast_dev_run must be off, since it keeps no weights, got True or a number.")
    mode = str(settings.validated_mode)
    watch = Watch(settings.metric, mode, report)
    # No other file is in the folder.
    weights = folder / "weights"
    best = ModelCheckpoint(weights, "best", monitor=settings.metric, mode=mode, enable_version_counter=False)
    # The experiment's own checkpoints would be written at each run, and perhaps into one folder; the search has a bar.
    left_out = (Checkpoint, ProgressBar, ModelSummary)
    others = [each for each in trainer_callbacks(trainer) if not isinstance(each, left_out)]
    trainer.callbacks = [*others, watch, *[best] * test]  # type: ignore[attr-defined]
    begin = time.perf_counter()
    fit, tested = _with_data(parts)
    trainer.fit(parts.model, **fit)
    seconds = time.perf_counter() - begin
    if watch.validations == 0:
        raise TuneError(f"metric={settings.metric!r} needs validation data, got a fit without a validation.")
    if watch.best is None:
        raise FloatingPointError(f"{settings.metric} was finite at none of {watch.validations} validations.")
    value = _test(parts, settings, best.best_model_path, tested) if test and tested is not None else None
    shutil.rmtree(weights, ignore_errors=True)
    return {
        "value": watch.best,
        "test": value,
        "test_metric": None if value is None else settings.tested,
        "seconds": seconds,
        "step_seconds": median(watch.steps) if watch.steps else None,
        "steps": len(watch.steps),
    }


def _with_data(parts: Parts) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The arguments of ``fit`` and ``test`` that name the data; None for the latter if there are none to test."""
    data, model = parts.data, parts.model
    can = is_overridden("test_step", model)
    if isinstance(data, Mapping):
        fit = {"train_dataloaders": data.get("train"), "val_dataloaders": data.get("val")}
        return fit, {"dataloaders": data["test"]} if can and data.get("test") is not None else None
    if data is None:
        return {}, {} if can and is_overridden("test_dataloader", model) else None
    has = is_overridden("test_dataloader", data, LightningDataModule)
    return {"datamodule": data}, {"datamodule": data} if can and has else None


def _test(parts: Parts, settings: Settings, weights: str, data: dict[str, Any]) -> float:
    for callback in trainer_callbacks(parts.trainer):
        forget_average(callback)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback, but loading")
        parts.trainer.test(parts.model, ckpt_path=weights, verbose=False, **data)
    return logged(parts.trainer, "test_metric", settings.tested)

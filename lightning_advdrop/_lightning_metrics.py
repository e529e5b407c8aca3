"""What the package uses of Lightning's internals to read and to change what has been logged in the running epoch.

As in `lightning_advdrop._lightning`, a function has a fallback, or names the release that it was tried with.
"""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch import Trainer


def _epoch_results(trainer: Trainer) -> dict[str, Any]:
    """Return what is logged in the running training epoch; nothing where Lightning keeps that elsewhere."""
    found = getattr(trainer.fit_loop.epoch_loop, "_results", {})
    return {name: each for name, each in found.items() if getattr(each, "is_tensor", False) and each.meta.on_epoch}


def epoch_means(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Return the sums of which the running training epoch's logged numbers are made, on the CPU.

    Args:
        trainer: the trainer, in a fit.

    Example:
        >>> epoch_means(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"))
        {}
    """
    results = _epoch_results(trainer)
    return {
        name: {key: value.detach().cpu() for key, value in each.metric_state.items()} for name, each in results.items()
    }


def add_to_epoch_mean(trainer: Trainer, name: str, state: dict[str, Any]) -> bool:
    """Add sums of `epoch_means` to what was logged under a name in the running epoch; return whether anything was.

    Args:
        trainer: the trainer, in a fit.
        name: a key of `epoch_means`.
        state: its value.
    """
    result = _epoch_results(trainer).get(name)
    if result is None:
        return False
    for key, value in state.items():
        now, before = getattr(result, key), value.to(result.device)
        extreme = result.meta.is_max_reduction or result.meta.is_min_reduction
        setattr(result, key, result.meta.reduce_fx(before, now) if extreme else before + now)
    return True


def logged_metrics(trainer: Trainer) -> dict[int, bool]:
    """Tell which metrics of torchmetrics a fit has logged, by their ids, and whether in training or in validation only.

    Args:
        trainer: the trainer, in a fit.

    Returns:
        True for each that was logged in training, False for one that was logged in validation alone.

    Example:
        >>> logged_metrics(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"))
        {}
    """
    training = trainer.fit_loop.epoch_loop
    found: dict[int, bool] = {}
    for loop, trains in ((getattr(training, "val_loop", None), False), (training, True)):
        results = getattr(loop, "_results", {}).values()
        found |= {id(each.value): trains for each in results if not getattr(each, "is_tensor", True)}
    return found


def rename_metric(trainer: Trainer | None, name: str, new: str) -> None:
    """Let what has been logged under a name in this epoch have another name, in the same place among the metrics.

    Args:
        trainer: the trainer that the values were logged to.
        name: the present name.
        new: the new one.

    Raises:
        RuntimeError: if Lightning has changed how it keeps what is logged.
    """
    if trainer is None:
        return
    training = trainer.fit_loop.epoch_loop
    try:
        for results in (training._results, training.val_loop._results, trainer.validate_loop._results):
            renamed = {}
            for key, metric in results.items():
                found = metric.meta.name == name
                if found:
                    metric.meta.name = new
                renamed[key.replace(name, new, 1) if found else key] = metric
            results.clear()
            results.update(renamed)
    except AttributeError as error:
        raise RuntimeError(
            f"A metric named {name!r} can't be renamed in Lightning {lightning.__version__}, and the module logs that "
            "name, too; log it under another one, or use Lightning 2.6."
        ) from error

"""Say at the end of a fit where its results are, and what to type next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lightning_advdrop._lightning import checkpoint_callbacks
from lightning_advdrop.loggers import WandbRunLogger


def end_of_fit(trainer: Trainer) -> str:
    """Return lines that name the best checkpoint with its score, the run's folder, and commands that go on from there.

    Args:
        trainer: the trainer, after the fit. Where no logger has a folder, the text is empty.

    Example:
        >>> end_of_fit(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"))
        ''
    """
    folders = [Path(logger.log_dir) for logger in trainer.loggers if logger.log_dir]
    if not folders:
        return ""
    lines = [("Best checkpoint", _best(trainer)), ("Run folder", _shown(folders[0]))]
    lines += [("Weights & Biases", f"wandb sync {_shown(folder)}") for folder in _offline_runs(trainer)]
    lines += [("Compare runs", f"advdrop report {_shown(folders[0].parent)}")]
    return "\n".join(f"{name + ':':18}{text}" for name, text in lines if text)


def _best(trainer: Trainer) -> str:
    """The best checkpoint by a monitored metric, else the last one."""
    found = sorted(checkpoint_callbacks(trainer), key=lambda each: each.monitor is None)
    for callback in found:
        if callback.best_model_path:
            score = "" if callback.monitor is None else f" ({callback.monitor} {_number(callback.best_model_score)})"
            return f"{_shown(Path(callback.best_model_path))}{score}"
    return ""


def _number(score: Any) -> str:
    return f"{float(score):.4g}"


def _offline_runs(trainer: Trainer) -> list[Path]:
    """The folders of runs of Weights & Biases that were written here only."""
    runs = [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbRunLogger)]
    return [Path(run.dir).parent for run in runs if getattr(run, "offline", False) is True]


def _shown(path: Path) -> str:
    """A path from the working folder on, where it lies there."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative

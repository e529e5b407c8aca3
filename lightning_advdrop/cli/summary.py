"""Say at the end of a fit where its results are, and what to type next."""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch import Trainer

from lightning_advdrop._lightning import checkpoint_callbacks
from lightning_advdrop.loggers import WandbRunLogger


def end_of_fit(trainer: Trainer) -> str:
    """Return lines that name the best checkpoint with its score, the run's folder, and commands that go on from there.

    Args:
        trainer: the trainer, after the fit. The text is empty where the fit left nothing.

    Example:
        >>> end_of_fit(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"))
        ''
    """
    folders = [Path(logger.log_dir) for logger in trainer.loggers if logger.log_dir]
    lines = [("Best checkpoint", _best(trainer)), *(("Run folder", _shown(each)) for each in folders[:1])]
    lines += [("Weights & Biases", f"wandb sync {_shown(folder)}") for folder in _offline_runs(trainer)]
    lines += [("Compare runs", f"advdrop report {_shown(each.parent)}") for each in folders[:1]]
    return "\n".join(f"{name + ':':18}{text}" for name, text in lines if text)


def _best(trainer: Trainer) -> str:
    """The best checkpoint by a monitored metric, else the last one."""
    found = sorted(checkpoint_callbacks(trainer), key=lambda each: each.monitor is None)
    for callback in found:
        # A resumed fit that saves nothing knows the path of the run before it, not the score.
        path, score = Path(callback.best_model_path), callback.best_model_score
        if callback.best_model_path and path.is_file():
            known = callback.monitor is not None and score is not None
            return f"{_shown(path)} ({callback.monitor} {float(score):.4g})" if known else _shown(path)
    return ""


def _offline_runs(trainer: Trainer) -> list[Path]:
    """The folders of runs of Weights & Biases that were written here only; one that was never opened has none."""
    opened = [each for each in trainer.loggers if isinstance(each, WandbRunLogger) and each._opened]
    runs = [logger.experiment for logger in opened]
    return [Path(run.dir).parent for run in runs if getattr(run, "offline", False) is True]


def _shown(path: Path) -> str:
    """A path from the working folder on, where it lies there."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative

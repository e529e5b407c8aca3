"""Find the checkpoint from which an experiment is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer

from lightning_advdrop.cli.run_config import run_folders
from lightning_advdrop.tasks.checkpoints import check_whole

_PARTS = ("seed_everything", "model", "data", "regularizer")


def is_whole(path: Path) -> bool:
    """Return whether a file is a checkpoint as it was written, which takes reading all of it."""
    try:
        check_whole("ckpt_path", path)
    except ValueError:
        return False
    return True


def last_of_runs(trainer: Trainer, config: Mapping[str, Any], *, required: bool) -> Path | None:
    """Return the `last_checkpoint` of the runs beside a trainer's, the same in all processes.

    They are in the folder of the first logger, as Lightning's checkpoints are.

    Args:
        trainer: the trainer of the new run.
        config: the experiment's configuration, in plain types.
        required: whether there must be one.

    Raises:
        ValueError: if the trainer has no logger, or there is no checkpoint and there must be one.
    """
    if not trainer.loggers:
        raise ValueError(
            "ckpt_path must name a file where trainer.logger is false, got 'last': earlier runs are found in the "
            "folder of a logger."
        )
    runs = Path(run_folders(trainer)[0]).parent
    path: Path | None = trainer.strategy.broadcast(last_checkpoint(runs, config))
    if path is None and required:
        raise ValueError(
            f"ckpt_path must name a file, got 'last' and no whole checkpoint of this experiment in {runs}; earlier "
            "runs with the same seed, model, data and regularizer are found."
        )
    return path


def last_checkpoint(runs: Path, config: Mapping[str, Any]) -> Path | None:
    """Return the newest ``last`` checkpoint of the earlier runs of an experiment; None if there is none.

    A run is of the same experiment if the ``config.yaml`` in its folder has the same seed, model, data and regularizer.
    Files that are truncated or damaged are passed over.

    Args:
        runs: the folder that has a folder for each run, with ``checkpoints`` in it.
        config: the experiment's configuration, in plain types.

    Example:
        >>> last_checkpoint(Path("no/such/folder"), {}) is None
        True
    """
    found = [path for path in runs.glob("*/checkpoints/last*.ckpt") if path.is_file()]
    newest_first = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    # A checkpoint may be large: those of other experiments are not read.
    return next((path for path in newest_first if _is_of(config, path.parents[1]) and is_whole(path)), None)


def _is_of(config: Mapping[str, Any], run: Path) -> bool:
    """Return whether the run in a folder is of the experiment of a configuration."""
    try:
        content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # missing, not a text, or not YAML
        return False
    return isinstance(content, dict) and all(content.get(part) == config.get(part) for part in _PARTS)


def check_left_by_slurm(folder: str) -> None:
    """Check that a job that Slurm ended left a checkpoint, which is what ``ckpt_path`` says with ``hpc``.

    Args:
        folder: the trainer's ``default_root_dir``; those that are not on this machine are not looked at.

    Raises:
        ValueError: if it has no such checkpoint.
    """
    if "://" not in folder and not any(Path(folder).glob("hpc_ckpt_*.ckpt")):
        raise ValueError(
            f"ckpt_path must name a file, got 'hpc' and no hpc_ckpt_N.ckpt in {folder}, which a job that Slurm ends "
            "leaves there; 'last' is the newest checkpoint of the experiment's earlier runs."
        )

"""Write the configuration of a run into its folder, and leave nothing of a run that never began."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from lightning_advdrop.loggers import WandbRunLogger

# What is written before anything is trained.
_BEGINNING = ("config.yaml", "hparams.yaml", "events.out.tfevents.*")


class RunConfig(SaveConfigCallback):
    """Write the whole configuration of a run into its folder, and hand it to Weights & Biases.

    A folder that has a ``config.yaml`` already keeps it: the next one is called ``config-1.yaml``. Without a logger a
    run has no folder of its own, and nothing is written into the working folder.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose a name that is free, then write."""
        if not trainer.loggers and Path(trainer.default_root_dir) == Path.cwd():
            self.save_to_log_dir = False
        if trainer.is_global_zero and trainer.log_dir is not None:
            names = itertools.chain(["config.yaml"], (f"config-{number}.yaml" for number in itertools.count(1)))
            self.config_filename = next(name for name in names if not (Path(trainer.log_dir) / name).exists())
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the configuration to Weights & Biases."""
        loggers = [each for each in trainer.loggers if isinstance(each, WandbLogger)]
        if loggers:
            content = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
            for logger in loggers:
                log = logger.log_configuration if isinstance(logger, WandbRunLogger) else logger.log_hyperparams
                log(content)


class LeaveNothing(Callback):
    """Remove the folder of a run that fails before its first step, with the folders above it that came with it.

    Folders that were there before the run stay, and those with anything but the configuration and copies of an earlier
    run's checkpoints in them.

    Args:
        trainer: the trainer, before it runs anything.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        loggers = trainer.loggers if trainer.is_global_zero else []
        self._begun: int | None = None
        self._copied: set[Path] = set()
        self._new = [list(_missing(Path(logger.log_dir))) for logger in loggers if logger.log_dir]

    def __enter__(self) -> None:
        """Watch the run."""
        # After those that copy files when a checkpoint is loaded.
        self._trainer.callbacks.append(self)  # type: ignore[attr-defined]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what is there before anything is trained, such as copies of the earlier run's best checkpoints."""
        self._copied = {path for folder, *_ in filter(None, self._new) for path in folder.rglob("*")}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the step at which training begins: a resumed fit has earlier ones."""
        self._begun = trainer.global_step

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Remove the folders that are new, if an exception ended the run and nothing was trained."""
        if kind is None or (self._begun is not None and self._trainer.global_step > self._begun):
            return
        for folder, *above in filter(None, self._new):
            later = {*folder.rglob("*")} - self._copied
            left = [path for path in later if not any(map(path.match, _BEGINNING))]
            if folder.is_dir() and not left:
                shutil.rmtree(folder)
                with suppress(OSError):  # one that is not empty, and those above it, stay
                    for each in above:
                        each.rmdir()


def _missing(folder: Path) -> Iterator[Path]:
    """Yield a folder and those above it that don't exist, from below."""
    while not folder.exists():
        yield folder
        folder = folder.parent

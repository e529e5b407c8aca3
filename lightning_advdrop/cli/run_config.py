"""Write the configuration of a run into its folder, and leave nothing of a run that never began."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from lightning_advdrop._lightning import trainer_callbacks
from lightning_advdrop.files import writing
from lightning_advdrop.loggers import WandbRunLogger

# What is written before anything is trained.
_BEGINNING = ("config.yaml", "hparams.yaml", "events.out.tfevents.*")


def run_folders(trainer: Trainer) -> list[str]:
    """Return the folders of a run: that of its checkpoints, then those of other loggers that write files.

    Checkpoints are where Lightning puts them, in a folder named after the first logger's name and version. Some
    loggers, such as MLflow's, open their run when they are asked for these.

    Args:
        trainer: the trainer of the run.

    Returns:
        Each folder once; none without a logger.

    Example:
        >>> from lightning.pytorch.loggers import CSVLogger
        >>> run_folders(Trainer(logger=CSVLogger("runs", name="digits", version=3), accelerator="cpu"))
        ['runs/digits/version_3']
    """
    if not trainer.loggers:
        return []
    first = trainer.loggers[0]
    version = first.version if isinstance(first.version, str) else f"version_{first.version}"
    # Not paths: a folder may be in a remote file system.
    own = os.path.join(first.save_dir or trainer.default_root_dir, str(first.name), version)  # noqa: PTH118
    return list(dict.fromkeys([own, *(str(logger.log_dir) for logger in trainer.loggers if logger.log_dir)]))


class RunConfig(SaveConfigCallback):
    """Write the whole configuration of a run into its folders, and hand it to Weights & Biases.

    A folder that has a ``config.yaml`` already keeps it: the next one is called ``config-1.yaml``. Without a logger a
    run has no folder of its own, and nothing is written into the working folder.
    """

    #: The folders that did not exist before, each with those above it that did not exist either.
    made: tuple[list[Path], ...] = ()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the configuration under a name that is free, in one process."""
        self.save_to_log_dir = False  # Lightning's writes into one folder, which not every first logger has
        if trainer.is_global_zero and not self.already_saved:
            elsewhere = [] if Path(trainer.default_root_dir) == Path.cwd() else [trainer.default_root_dir]
            folders = run_folders(trainer) if trainer.loggers else elsewhere
            self.made = tuple(list(_missing(Path(folder))) for folder in folders)
            for folder in folders:
                self._write(folder)
        super().setup(trainer, pl_module, stage)

    def _write(self, folder: str) -> None:
        files = get_filesystem(folder)
        names = itertools.chain(["config.yaml"], (f"config-{number}.yaml" for number in itertools.count(1)))
        paths = (os.path.join(folder, name) for name in names)  # noqa: PTH118
        path = next(path for path in paths if not files.exists(path))
        with writing(Path(path)):
            files.makedirs(folder, exist_ok=True)
            self.parser.save(self.config, path, skip_none=False, multifile=self.multifile)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the configuration to Weights & Biases."""
        loggers = [each for each in trainer.loggers if isinstance(each, WandbLogger)]
        if loggers:
            content = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
            for logger in loggers:
                log = logger.log_configuration if isinstance(logger, WandbRunLogger) else logger.log_hyperparams
                log(content)


class LeaveNothing(Callback):
    """Remove the folders of a run that fails before its first step, with the folders above them that came with them.

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

    @property
    def _folders(self) -> list[list[Path]]:
        """The folders that came with the run: loggers make theirs, then `RunConfig` the others."""
        made = [each.made for each in trainer_callbacks(self._trainer) if isinstance(each, RunConfig)]
        return [folders for folders in itertools.chain(self._new, *made) if folders]

    def __enter__(self) -> None:
        """Watch the run."""
        # After those that copy files when a checkpoint is loaded.
        self._trainer.callbacks.append(self)  # type: ignore[attr-defined]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what is there before anything is trained, such as copies of the earlier run's best checkpoints."""
        self._copied = {path for folder, *_ in self._folders for path in folder.rglob("*")}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the step at which training begins: a resumed fit has earlier ones."""
        self._begun = trainer.global_step

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Remove the folders that are new, if an exception ended the run and nothing was trained."""
        if kind is None or (self._begun is not None and self._trainer.global_step > self._begun):
            return
        for folder, *above in self._folders:
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

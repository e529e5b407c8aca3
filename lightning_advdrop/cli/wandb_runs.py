"""Tell Weights & Biases what an experiment's run is: its name, tags, kind and notes, and which run it goes on with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from lightning_advdrop.__about__ import __version__
from lightning_advdrop.cli.resuming import is_whole
from lightning_advdrop.loggers import WandbRunLogger

_ID = "wandb_run_id"
_SERVICE_CHARACTERS = 64  # the most that the service takes in a tag


def experiment_name(config: Mapping[str, Any]) -> str:
    """Return the name of an experiment: that of its log folder, else its group's, else that of its data.

    Args:
        config: the configuration of a run.

    Example:
        >>> experiment_name({"trainer": {"logger": [{"class_path": "CSVLogger", "init_args": {"name": "digits"}}]}})
        'digits'
    """
    entries = _entries((config.get("trainer") or {}).get("logger"))
    names = [_arguments(each).get("name") for each in entries if not _is_wandb(each)]
    groups = [_arguments(each).get("group") for each in entries]
    found = next((name for name in (*names, *groups) if isinstance(name, str) and name), None)
    return found or _class_name(config.get("data")).removesuffix("DataModule").lower() or "run"


def method_names(config: Mapping[str, Any]) -> list[str]:
    """Return short names of the regularizers of a configuration; ``plain`` without any.

    Example:
        >>> method_names({"regularizer": {"class_path": "lightning_advdrop.AdversarialDropoutCallback"}})
        ['adversarial']
        >>> method_names({"regularizer": [{"class_path": "RDropCallback"}, {"class_path": "PiModelCallback"}]})
        ['r-drop', 'pi-model']
    """
    return [_method(each) for each in _entries(config.get("regularizer"))] or ["plain"]


def run_identity(config: Mapping[str, Any], arguments: Sequence[str], command: str) -> dict[str, Any]:
    """Return the name, group, tags, kind and notes of a run, as ``wandb.init`` takes them.

    Args:
        config: the configuration of the run.
        arguments: the command line, without the program.
        command: ``fit``, ``validate``, ``test`` or ``predict``.

    Example:
        >>> found = run_identity({"seed_everything": 3, "data": {"class_path": "DigitsDataModule"}}, ["fit"], "fit")
        >>> found["name"], found["job_type"], found["notes"]
        ('digits-plain-s3', 'fit', 'advdrop fit')
    """
    experiment, methods, seed = experiment_name(config), method_names(config), config.get("seed_everything")
    # Not True, which is an integer: LightningCLI's word for any seed.
    ending = f"-s{seed}" if type(seed) is int else ""
    tags = [experiment, *methods, _class_name(config.get("data")), f"lightning-advdrop {__version__}"]
    return {
        "name": f"{experiment}-{'+'.join(methods)}{ending}",
        "group": experiment,
        "job_type": command,
        "tags": [tag[:_SERVICE_CHARACTERS] for tag in dict.fromkeys(tags) if tag],
        "notes": f"advdrop {shlex.join(arguments)}",
    }


def with_identity(loggers: Any, config: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """Replace the loggers of Weights & Biases that a configuration names by `WandbRunLogger`s that know the run.

    They have opened no run so far, and are made again with the same arguments. Where an argument is not given, it is
    that of `run_identity`.

    Args:
        loggers: the loggers, or what else the trainer takes.
        config: their part of the configuration, ``trainer.logger``.
        known: the arguments of `run_identity`, and ``id``.
    """
    entries, made = _entries(config), loggers if isinstance(loggers, list) else [loggers]
    if len(entries) != len(made):
        return loggers
    replaced = [
        WandbRunLogger(**{**known, **_arguments(entry)}) if type(each) in (WandbLogger, WandbRunLogger) else each
        for each, entry in zip(made, entries, strict=True)
    ]
    return replaced if isinstance(loggers, list) else replaced[0]


def earlier_id(checkpoint: Path) -> str | None:
    """Return the id of the run that wrote a checkpoint; None if it was not logged, or can't be read safely.

    Files that are not whole can't be read, nor can those that hold objects of a user's own classes.
    """
    if not is_whole(checkpoint):
        return None
    try:
        found: str | None = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get(_ID)
    except (UnpicklingError, RuntimeError):
        return None
    return found


class RememberRun(Callback):
    """Open the run of Weights & Biases when the first batch is through, and save its id in checkpoints."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Open the run, which measures the machine from then on."""
        if batch_idx == 0:
            for logger in _wandb_loggers(trainer):
                logger.open()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the id of the run."""
        for logger in _wandb_loggers(trainer):
            checkpoint[_ID] = logger.version


def _wandb_loggers(trainer: Trainer) -> list[Any]:
    return [each for each in trainer.loggers if isinstance(each, WandbRunLogger)]


def _method(entry: Any) -> str:
    """The class of a regularizer in words: ``virtual-adversarial`` for VirtualAdversarialCallback."""
    inner = _arguments(entry).get("regularizer")
    if inner is not None:
        return _method(inner)
    name = _class_name(entry).removesuffix("Callback")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
    return words.removesuffix("-dropout")


def _entries(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list) else [value]


def _class_name(entry: Any) -> str:
    path = entry.get("class_path") if hasattr(entry, "get") else None
    return path.rpartition(".")[2] if isinstance(path, str) else ""


def _is_wandb(entry: Any) -> bool:
    return _class_name(entry).startswith("Wandb")


def _arguments(entry: Any) -> dict[str, Any]:
    """The arguments of a class in a configuration, those that its signature doesn't name among them."""
    if not hasattr(entry, "get"):
        return {}
    return {name: value for name, value in _given(entry) if value is not None}


def _given(entry: Any) -> Iterator[tuple[str, Any]]:
    for part in ("init_args", "dict_kwargs"):
        found = entry.get(part)
        if found is not None:
            yield from (found.as_dict() if hasattr(found, "as_dict") else found).items()

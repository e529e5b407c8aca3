"""Check what an experiment needs before anything is prepared or trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from pkgutil import resolve_name
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.serialization import get_unsafe_globals_in_checkpoint

from lightning_advdrop.cli.configs import maker_of
from lightning_advdrop.tasks.checkpoints import MissingCheckpointError, check_whole

_GPUS = ("gpu", "cuda", "mps")
# Lightning finds these: of an earlier run, and of a job that Slurm ended.
_FOUND = ("last", "hpc")
# Each is in the folders that a strategy of Lightning's saves in place of files: FSDP, DeepSpeed.
_IN_SHARDED = ("meta.pt", "checkpoint")


def check_needs(command: str | None, config: Mapping[str, Any]) -> None:
    """Check what a command needs before it makes anything: a GPU, checkpoints to resume or to start from.

    Args:
        command: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``; None where objects are made only.
        config: its configuration.

    Raises:
        ValueError: if the checkpoint is not whole, or one is named where nothing is resumed, or the machine has no GPU
            and one is asked for.
        MissingCheckpointError: if there is no such checkpoint, or the weights to start from do not exist.
    """
    if command is None:
        if config.get("ckpt_path") is not None:
            raise ValueError(
                f"ckpt_path must be null where nothing is resumed, got {config['ckpt_path']!r}; add --ckpt_path null."
            )
        return
    check_accelerator(config.get("trainer.accelerator"))
    path = config.get("ckpt_path")
    check_checkpoint(path)
    if command == "fit" and path is None:
        check_pretrained(config.get("model"))


def check_checkpoint(path: str | Path | None) -> None:
    """Check that there is a whole checkpoint where ``ckpt_path`` says.

    What is not on this machine, or is found when the trainer is there, is not looked at.

    Args:
        path: the value of ``ckpt_path``.

    Raises:
        MissingCheckpointError: if it names no file, nor anything else from which Lightning loads.
        ValueError: if the file is truncated, damaged or something else.

    Example:
        >>> check_checkpoint("last")
        >>> check_checkpoint("s3://bucket/best.ckpt")
    """
    if path is None or path in _FOUND or "://" in str(path) or _is_of_registry(path):
        return
    place = Path(path).expanduser()
    if any((place / name).exists() for name in _IN_SHARDED):
        return
    # Lightning takes 'best' for a word, whatever files there are.
    if path == "best" or not place.is_file():
        got = "a folder" if place.is_dir() else "which a fit alone knows" if path == "best" else "no such file"
        raise MissingCheckpointError(
            "ckpt_path must be a checkpoint file, such as runs/NAME/version_0/checkpoints/best.ckpt, a URL, or 'last' "
            f"for the newest one of the experiment's earlier runs, got {str(path)!r}, {got}."
        )
    check_whole("ckpt_path", place)


def _is_of_registry(path: str | Path) -> bool:
    """Return whether Lightning fetches a checkpoint from its registry of models, by a package of its own."""
    return str(path).lower().partition(":")[0] == "registry" and find_spec("litmodels") is not None


def check_pretrained(model: Mapping[str, Any] | None) -> None:
    """Check that the pre-trained weights exist from which a model starts.

    Args:
        model: its part of the configuration. Arguments of other packages' classes may mean something else.

    Raises:
        MissingCheckpointError: if one of the files that ``pretrained...`` arguments name does not exist.
    """
    if not is_ours(_named((model or {}).get("class_path"))):
        return
    for argument, path in dict((model or {}).get("init_args") or {}).items():
        if argument.startswith("pretrained") and isinstance(path, (str, Path)) and not Path(path).is_file():
            maker = maker_of(Path(path))
            remedy = f"`lightning fit --config {maker}` makes it." if maker else "give the path of an earlier run's."
            raise MissingCheckpointError(
                f"{argument}={str(path)!r} must be a checkpoint file, got no such file; {remedy}"
            )


def check_predicts(model: LightningModule) -> None:
    """Check that a model has what Lightning predicts with.

    Raises:
        ValueError: if it has neither a ``predict_step`` nor a ``forward`` of its own.
    """
    if not any(is_overridden(method, model) for method in ("predict_step", "forward")):
        raise ValueError(
            f"model must be one that predicts, by a predict_step or a forward of its own, got {type(model).__name__}; "
            "`test` and `validate` evaluate it."
        )


@contextmanager
def naming_foreign_objects(path: str | None) -> Iterator[None]:
    """Name the objects in a checkpoint for which torch refuses to read it in this context.

    Args:
        path: the checkpoint that is read, the value of ``ckpt_path``.

    Raises:
        ValueError: if the checkpoint holds anything but weights and plain types, from torch's own error.
    """
    try:
        yield
    except UnpicklingError as error:
        found = ", ".join(sorted(get_unsafe_globals_in_checkpoint(str(path)))) or "unknown ones"
        raise ValueError(
            f"ckpt_path={str(path)!r} must hold weights and plain types only, got objects of other classes ({found}), "
            "which may run code when they are loaded; save plain values in their place, or call "
            "torch.serialization.add_safe_globals in the module of your model."
        ) from error


def is_ours(kind: object) -> bool:
    """Return whether a class is one of this package.

    Example:
        >>> is_ours(MissingCheckpointError), is_ours(ValueError), is_ours(None)
        (True, False, False)
    """
    return isinstance(kind, type) and kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def _named(path: Any) -> object:
    """What a class path names; None where it names nothing."""
    try:
        return resolve_name(path) if isinstance(path, str) else None
    except (ImportError, AttributeError, ValueError):
        return None


def check_accelerator(accelerator: Any) -> None:
    """Check that the machine has the GPU that is asked for.

    Raises:
        ValueError: if it has none.
    """
    if accelerator not in _GPUS:
        return
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not (any(found.values()) if accelerator == "gpu" else found[accelerator]):
        there = ["cpu", *(name for name, available in found.items() if available)]
        raise ValueError(
            f"trainer.accelerator must be one that this machine has ({', '.join(there)}), got {accelerator!r}; "
            "on a machine with a GPU, look whether torch was installed for it."
        )

"""Check what an experiment needs before anything is prepared or trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from pkgutil import resolve_name
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from lightning_advdrop.cli.configs import maker_of
from lightning_advdrop.tasks.checkpoints import MissingCheckpointError

_GPUS = ("gpu", "cuda", "mps")


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

"""Check what an experiment needs before anything is prepared or trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_advdrop.cli.configs import maker_of
from lightning_advdrop.tasks.checkpoints import MissingCheckpointError

_GPUS = ("gpu", "cuda", "mps")


def check_pretrained(model: Mapping[str, Any] | None) -> None:
    """Check that the pre-trained weights exist from which a model starts.

    Args:
        model: its part of the configuration.

    Raises:
        MissingCheckpointError: if one of the files that ``pretrained...`` arguments name does not exist.
    """
    for argument, path in dict((model or {}).get("init_args") or {}).items():
        if argument.startswith("pretrained") and isinstance(path, (str, Path)) and not Path(path).is_file():
            maker = maker_of(Path(path))
            remedy = f"`lightning fit --config {maker}` makes it." if maker else "give the path of an earlier run's."
            raise MissingCheckpointError(
                f"{argument}={str(path)!r} must be a checkpoint file, got no such file; {remedy}"
            )


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

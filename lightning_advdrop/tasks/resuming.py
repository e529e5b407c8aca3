"""What a run needs to go on from a checkpoint as if it had not been interrupted, beside what Lightning keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def torch_random_states() -> dict[str, Any]:
    """The states of torch's generators, which dropout draws from: of the CPU, and of each GPU in use.

    Example:
        >>> states = torch_random_states()
        >>> first = torch.rand(3)
        >>> restore_random_states(states)
        >>> torch.equal(first, torch.rand(3))
        True
    """
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if in_use else []}


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Brings back what `torch_random_states` returned; of GPUs, those that are there.

    Args:
        states: what it returned, on any device.
    """
    torch.set_rng_state(states["cpu"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)


def read_checkpoint(path: str, name: str) -> dict[str, Any]:
    """The content of a checkpoint, plain types and tensors on the CPU.

    Args:
        path: the file.
        name: the argument that the message names.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{name} must be a checkpoint of an earlier run, got {path!r}: no such file.")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content

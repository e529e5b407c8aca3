"""Exchange objects between the processes of a distributed training."""

from __future__ import annotations

from typing import TypeVar

import torch
from lightning.pytorch import Trainer

T = TypeVar("T")


def of_every_process(trainer: Trainer, own: T) -> list[T]:
    """Gather an object from each process, in the order of their ranks; all processes have to call it.

    Args:
        trainer: the trainer.
        own: this process's object: anything that can be pickled, with its tensors on the CPU, of any size.

    Example:
        >>> of_every_process(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), "mine")
        ['mine']
    """
    if trainer.world_size == 1:
        return [own]
    values: list[T] = [own] * trainer.world_size
    torch.distributed.all_gather_object(values, own)
    return values

"""Loaders of data sets that put a whole batch together at once."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset

_Batch = TypeVar("_Batch")


def _keep_batch(batch: Any) -> Any:
    """Return a batch as it is; a function of a module can be sent to worker processes, unlike a lambda."""
    return batch


def whole_batches(dataset: Dataset[_Batch], num_workers: int, **arguments: Any) -> DataLoader[_Batch]:
    """Return a loader of a data set that puts a whole batch together itself.

    Args:
        dataset: Returns a batch for a list of indices.
        num_workers: Worker processes, at least 0.
        **arguments: ``batch_size``, ``sampler`` and others of ``DataLoader``.

    Example:
        >>> loader = whole_batches(torch.utils.data.TensorDataset(torch.arange(3)), num_workers=0, batch_size=2)
        >>> len(loader)
        2
    """
    return DataLoader(
        dataset,
        num_workers=num_workers,
        collate_fn=_keep_batch,
        generator=torch.Generator(),  # else it draws from the global one, and a resumed run would be another
        persistent_workers=num_workers > 0,
        **arguments,  # by name, else Lightning cannot rebuild the loader for prediction
    )


def rank_and_world_size(trainer: Trainer | None) -> tuple[int, int]:
    """Return the number of this process, from 0, and how many there are; there is one without a trainer.

    Example:
        >>> rank_and_world_size(None)
        (0, 1)
    """
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

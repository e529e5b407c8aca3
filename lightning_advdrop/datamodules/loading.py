"""Loaders of data sets that put a whole batch together at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset

from lightning_advdrop.datamodules.position import EpochPosition

_Batch = TypeVar("_Batch")


def _keep_batch(batch: Any) -> Any:
    """Return a batch as it is; a function of a module can be sent to worker processes, unlike a lambda."""
    return batch


class ResumableLoader(DataLoader[_Batch]):
    """Loader whose position in the epoch is part of Lightning's checkpoints.

    Lightning saves and restores the position with :meth:`state_dict` and :meth:`load_state_dict`: a run resumed in the
    middle of an epoch continues with the next batch. The batches before it are loaded and thrown away. The order must
    be a function of the sampler's epoch alone.

    Args:
        *args: Arguments of ``DataLoader``.
        used_batches: Returns the number of batches used in this epoch; ``None`` to count those drawn.
        **kwargs: Further arguments of ``DataLoader``.

    Example:
        >>> loader = ResumableLoader(range(5), batch_size=None)
        >>> batches = iter(loader)
        >>> next(batches), next(batches)
        (0, 1)
        >>> resumed = ResumableLoader(range(5), batch_size=None)
        >>> resumed.load_state_dict(loader.state_dict())
        >>> list(resumed), list(resumed)
        ([2, 3, 4], [0, 1, 2, 3, 4])
    """

    def __init__(self, *args: Any, used_batches: Callable[[], int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used_batches = used_batches  # under its own name, by which Lightning can make such a loader anew
        settings = {"examples": len(self.dataset), "batches": len(self), "seed": getattr(self.sampler, "seed", 0)}  # type: ignore[arg-type]
        self._position = EpochPosition(settings, used_batches)

    @property
    def _epoch(self) -> int:
        return getattr(self.sampler, "epoch", 0)

    def __iter__(self) -> Iterator[_Batch]:  # type: ignore[override]
        # A generator, so that the sampler and its workers start when Lightning has told the sampler its epoch.
        first = self._position.begin(self._epoch)
        for number, batch in enumerate(super().__iter__()):
            if number >= first:
                self._position.draw(number + 1)
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of batches used in it, and the settings that they depend on."""
        return self._position.state_dict(self._epoch)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the batches that had been used when the state was saved.

        Raises:
            ValueError: If the number of examples or batches or the seed differs; it names the setting.
        """
        self._position.load_state_dict(state_dict)


def whole_batches(dataset: Dataset[_Batch], num_workers: int, **arguments: Any) -> ResumableLoader[_Batch]:
    """Return a loader of a data set that puts a whole batch together itself.

    Args:
        dataset: Returns a batch for a list of indices.
        num_workers: Worker processes, at least 0.
        **arguments: ``batch_size``, ``sampler`` and others of ``DataLoader``, and ``used_batches`` of
            `ResumableLoader`.

    Example:
        >>> loader = whole_batches(torch.utils.data.TensorDataset(torch.arange(3)), num_workers=0, batch_size=2)
        >>> len(loader)
        2
    """
    return ResumableLoader(
        dataset,
        num_workers=num_workers,
        collate_fn=_keep_batch,
        generator=torch.Generator(),  # else it draws from the global one, and a resumed run would be another
        persistent_workers=num_workers > 0,
        **arguments,  # by name, else Lightning cannot rebuild the loader for prediction
    )


def batches_used_by(trainer: Trainer | None) -> Callable[[], int] | None:
    """Return a function that tells how many batches of its epoch a trainer has used; ``None`` without a trainer.

    Example:
        >>> batches_used_by(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"))()
        0
    """
    return None if trainer is None else lambda: processed(trainer.fit_loop.epoch_loop.batch_progress)


def processed(progress: Any) -> int:
    """Return a counter of Lightning, which does not declare its type."""
    return int(progress.current.processed)


def rank_and_world_size(trainer: Trainer | None) -> tuple[int, int]:
    """Return the number of this process, from 0, and how many there are; there is one without a trainer.

    Example:
        >>> rank_and_world_size(None)
        (0, 1)
    """
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

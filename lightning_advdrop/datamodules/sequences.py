"""Base of the image data modules: images read as sequences, in an order that can be resumed."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lightning_advdrop.datamodules.checks import MAX_SEED, check_integers, check_stage
from lightning_advdrop.datamodules.loading import batches_used_by, rank_and_world_size, whole_batches

Batch = tuple[Tensor, Tensor]
"""Sequences ``(B, steps, features)`` of dtype ``float32`` in [0, 1] and labels ``(B,)`` of dtype ``int64``."""

_PERMUTATION_SEED = 10


def step_permutation(n_pixels: int) -> Tensor:
    """Return the fixed pixel order of the permuted task (Le, Jaitly & Hinton 2015, arXiv 1504.00941).

    It is drawn from NumPy's legacy generator with seed 10, as in the published experiments.

    Args:
        n_pixels: Number of pixels, at least 1.

    Returns:
        Permutation ``(n_pixels,)`` of dtype ``int64``.

    Example:
        >>> step_permutation(784)[:4].tolist()
        [237, 489, 68, 737]
    """
    return torch.from_numpy(np.random.RandomState(_PERMUTATION_SEED).permutation(n_pixels))


class SequenceDataset(Dataset[Batch]):
    """Sequences and labels in memory; a whole batch is one index operation.

    Args:
        sequences: ``(N, steps, features)``.
        labels: ``(N,)``.

    Example:
        >>> dataset = SequenceDataset(torch.zeros(5, 4, 1), torch.arange(5))
        >>> [part.shape for part in dataset.__getitems__([3, 1])]
        [torch.Size([2, 4, 1]), torch.Size([2])]
    """

    def __init__(self, sequences: Tensor, labels: Tensor) -> None:
        self.sequences = sequences
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.sequences[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        # NumPy gathers with one thread. Torch wakes all of its threads for a few kilobytes, which takes a hundred times
        # as long on a machine where other processes compete for the cores.
        sequences, labels = self.sequences.numpy(), self.labels.numpy()
        return torch.from_numpy(sequences[indices]), torch.from_numpy(labels[indices])


class SequenceImageDataModule(LightningDataModule, ABC):
    """Square grey images read pixel by pixel or row by row (Le, Jaitly & Hinton 2015, arXiv 1504.00941).

    A subclass implements :meth:`load_training` and :meth:`load_test`. Batches are sequences ``(B, steps, features)`` of
    dtype ``float32`` in [0, 1] and labels ``(B,)`` of dtype ``int64``. The order of the training images is a function
    of ``seed`` and the epoch alone, so that a run resumed after an epoch, or within one, sees the batches of an
    uninterrupted one.

    Args:
        side: Height and width of an image.
        n_train: Number of training images before ``train_size`` limits them.
        by: ``"pixel"``: ``side * side`` steps of 1 feature; ``"row"``: ``side`` steps of ``side`` features.
        permuted: Whether to read the pixels in one fixed random order; needs ``by="pixel"``.
        train_size: Number of training images, drawn with ``seed``, from 1 to ``n_train``; ``None`` for all. A smaller
            draw is a subset of a larger one.
        batch_size: Images in a training batch, at least 1.
        eval_batch_size: Images in a batch of validation, test and prediction, at least 1.
        num_workers: Worker processes of a loader, at least 0. The data are in memory: 0 is the fastest.
        seed: Seed of the subset and the order of the training images, from 0 to ``2**32 - 1``.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range, or ``permuted`` is set with ``by="row"``.

    Example:
        >>> class Blank(SequenceImageDataModule):
        ...     def load_training(self):
        ...         images, labels = torch.zeros(6, 4, 4), torch.zeros(6, dtype=torch.long)
        ...         return images[:4], labels[:4], images[4:], labels[4:]
        ...
        ...     def load_test(self):
        ...         return torch.zeros(2, 4, 4), torch.zeros(2, dtype=torch.long)
        >>> blank = Blank(side=4, n_train=4, by="row", batch_size=3)
        >>> blank.setup("fit")
        >>> [tuple(sequences.shape) for sequences, _ in blank.train_dataloader()]
        [(3, 4, 4), (1, 4, 4)]
    """

    def __init__(
        self,
        *,
        side: int,
        n_train: int,
        by: Literal["pixel", "row"] = "pixel",
        permuted: bool = False,
        train_size: int | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 1000,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if by not in ("pixel", "row"):
            raise ValueError(f"by must be 'pixel' or 'row', got {by!r}")
        if permuted and by != "pixel":
            raise ValueError(f"permuted=True needs by='pixel', got by={by!r}: the permutation is one of single pixels")
        check_integers(1, n_train, optional=True, train_size=train_size)
        check_integers(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_integers(0, num_workers=num_workers)
        check_integers(0, MAX_SEED, seed=seed)
        self.side = side
        self.by = by
        self.permuted = permuted
        self.train_size = train_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._datasets: dict[Literal["train", "val", "test"], SequenceDataset] = {}

    @property
    def num_classes(self) -> int:
        """Number of classes: 10 digits."""
        return 10

    @property
    def reading(self) -> dict[str, Any]:
        """How an image becomes a sequence: ``by``, ``permuted`` and ``side``."""
        return {"by": self.by, "permuted": self.permuted, "side": self.side}

    @property
    def num_steps(self) -> int:
        """Length of a sequence."""
        return self.side**2 if self.by == "pixel" else self.side

    @property
    def input_size(self) -> int:
        """Number of features of a step."""
        return 1 if self.by == "pixel" else self.side

    @abstractmethod
    def load_training(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Load training images, training labels, validation images and validation labels.

        Returns:
            Images ``(N, side, side)`` of dtype ``float32`` in [0, 1] and labels ``(N,)`` of dtype ``int64``, twice.
        """

    @abstractmethod
    def load_test(self) -> tuple[Tensor, Tensor]:
        """Load test images and labels.

        Returns:
            Images ``(N, side, side)`` of dtype ``float32`` in [0, 1] and labels ``(N,)`` of dtype ``int64``.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load the data of a stage, once.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None`` for all of them.

        Raises:
            ValueError: If ``stage`` is another one.
        """
        check_stage(stage)
        if stage in ("fit", "validate", None) and "train" not in self._datasets:
            train_images, train_labels, val_images, val_labels = self.load_training()
            if self.train_size is not None:
                order = np.random.RandomState(self.seed).permutation(len(train_labels))
                chosen = torch.from_numpy(order[: self.train_size])
                train_images, train_labels = train_images[chosen], train_labels[chosen]
            self._datasets["train"] = SequenceDataset(self.to_sequences(train_images), train_labels)
            self._datasets["val"] = SequenceDataset(self.to_sequences(val_images), val_labels)
        if stage in ("test", "predict", None) and "test" not in self._datasets:
            images, labels = self.load_test()
            self._datasets["test"] = SequenceDataset(self.to_sequences(images), labels)

    def to_sequences(self, images: Tensor) -> Tensor:
        """Read images as sequences.

        Args:
            images: ``(N, side, side)``.

        Returns:
            ``(N, num_steps, input_size)``.
        """
        sequences = images.reshape(len(images), self.num_steps, self.input_size)
        return sequences[:, step_permutation(self.num_steps)] if self.permuted else sequences

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of training batches, shuffled by ``seed`` and epoch: the share of this process."""
        dataset = self._dataset("train", "fit")
        rank, replicas = rank_and_world_size(self.trainer)
        # Lightning sets the epoch of this sampler and leaves it in place in distributed runs.
        sampler: DistributedSampler[Batch] = DistributedSampler(dataset, replicas, rank, shuffle=True, seed=self.seed)
        used = batches_used_by(self.trainer)
        return whole_batches(dataset, self.num_workers, batch_size=self.batch_size, sampler=sampler, used_batches=used)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of validation batches, in the order of the images."""
        return self._eval_loader("val", "validate")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of test batches, in the order of the images."""
        return self._eval_loader("test", "test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of test batches, labels included."""
        return self._eval_loader("test", "predict")

    def _dataset(self, split: Literal["train", "val", "test"], stage: str) -> SequenceDataset:
        if split not in self._datasets:
            raise RuntimeError(f"The {split} data are not loaded: call setup({stage!r}) before asking for their loader")
        return self._datasets[split]

    def _eval_loader(self, split: Literal["val", "test"], stage: str) -> DataLoader[Batch]:
        return whole_batches(self._dataset(split, stage), self.num_workers, batch_size=self.eval_batch_size)

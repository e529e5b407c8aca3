"""Loaders of encoded documents: batch by batch, or as one long text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, Dataset

from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.datamodules.document_store import DocumentSet
from lightning_advdrop.datamodules.sequences import keep_batch
from lightning_advdrop.datamodules.text_batches import LengthBuckets, TextBatch, pad_documents


class DocumentDataset(Dataset[TextBatch]):
    """Documents of which a whole batch is taken at once.

    Args:
        documents: Numbers of words.
        max_tokens: The last so many tokens of a document are taken, at least 1.
        padding_index: Stands behind the end of the shorter documents of a batch.

    Example:
        >>> documents = DocumentSet.of(np.array([5, 2, 7, 6, 2]), lengths=np.array([2, 3]), labels=np.array([0, 1]))
        >>> DocumentDataset(documents, max_tokens=2, padding_index=1)[[1, 0]].tokens.tolist()
        [[6, 2], [5, 2]]
    """

    def __init__(self, documents: DocumentSet, max_tokens: int, padding_index: int) -> None:
        self.documents = documents
        self.max_tokens = max_tokens
        self.padding_index = padding_index

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document that are taken, ``(N,)``."""
        return np.minimum(self.documents.lengths, self.max_tokens)

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, numbers: list[int]) -> TextBatch:
        documents = [self.documents.last_tokens(number, self.max_tokens) for number in numbers]
        return pad_documents(documents, self.documents.labels[numbers].tolist(), self.padding_index)

    __getitems__ = __getitem__


@dataclass(frozen=True)
class DocumentLoaders:
    """Makes loaders of documents that have the same settings.

    Example:
        >>> documents = DocumentSet.of(np.array([5, 2, 7, 6, 2]), lengths=np.array([2, 3]), labels=np.array([0, 1]))
        >>> loaders = DocumentLoaders(max_tokens=400, padding_index=1)
        >>> [batch.tokens.tolist() for batch in loaders.batches(documents, batch_size=2, shuffle=False)]
        [[[5, 2, 1], [7, 6, 2]]]
        >>> [tokens.T.tolist() for tokens, _ in loaders.text(documents, batch_size=2)]
        [[[5, 2], [7, 6]]]
    """

    max_tokens: int
    """The last so many tokens of a document are read; of a text, steps of a batch. At least 1."""
    padding_index: int
    """Stands behind the end of the shorter documents of a batch."""
    reverse: bool = False
    """Whether a text is read from its end."""
    seed: int = 0
    """Of the order, from 0 to ``2**32 - 1``."""
    num_workers: int = 0
    """Worker processes of a loader of batches, at least 0."""
    rank: int = 0
    """Number of this process, from 0 to ``world_size - 1``."""
    world_size: int = 1
    """Number of processes, at least 1."""

    def batches(
        self, documents: DocumentSet, batch_size: int, *, shuffle: bool, num_batches: int | None = None
    ) -> DataLoader[TextBatch]:
        """Return a loader of `TextBatch` of about equally long documents.

        Args:
            documents: At least one.
            batch_size: Documents in a batch of one process, at least 1.
            shuffle: Whether to shuffle; else they come in the order of their lengths.
            num_batches: Batches in an epoch, at least 1; ``None`` for one pass.
        """
        dataset = DocumentDataset(documents, self.max_tokens, self.padding_index)
        sampler = LengthBuckets(
            dataset.lengths,
            batch_size,
            shuffle=shuffle,
            num_batches=num_batches,
            seed=self.seed,
            rank=self.rank,
            world_size=self.world_size,
        )
        return DataLoader(
            dataset,
            batch_size=None,  # the sampler makes the batches
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=keep_batch,
            generator=torch.Generator(),  # else it draws from the global one, and a resumed run would be another
            persistent_workers=self.num_workers > 0,
        )

    def in_order(self, documents: DocumentSet, batch_size: int) -> DataLoader[TextBatch]:
        """Return a loader of `TextBatch` in the documents' own order, which Lightning can share out for predictions.

        Args:
            documents: Any number.
            batch_size: Documents in a batch, at least 1.
        """
        return DataLoader(
            DocumentDataset(documents, self.max_tokens, self.padding_index),
            batch_size=batch_size,  # by name, else Lightning cannot rebuild the loader for prediction
            num_workers=self.num_workers,
            collate_fn=keep_batch,
            generator=torch.Generator(),  # else it draws from the global one, and a resumed run would be another
        )

    def combined(
        self, labelled: DocumentSet, unlabelled: DocumentSet, batch_size: int, unlabelled_batch_size: int
    ) -> CombinedLoader:
        """Return a loader of shuffled ``{"labelled": TextBatch, "unlabelled": TextBatch}``.

        An epoch is one pass over the labelled documents; the unlabelled ones go on where the epoch before stopped.

        Args:
            labelled: At least one document.
            unlabelled: Any number; if there is none, batches are ``{"labelled": TextBatch}``.
            batch_size: Labelled documents in a batch of one process, at least 1.
            unlabelled_batch_size: Unlabelled documents in a batch of one process, at least 1.
        """
        loaders = {"labelled": self.batches(labelled, batch_size, shuffle=True)}
        if len(unlabelled):
            steps = len(loaders["labelled"])
            loaders["unlabelled"] = self.batches(unlabelled, unlabelled_batch_size, shuffle=True, num_batches=steps)
        return CombinedLoader(loaders, "min_size")  # they are of equal length

    def text(self, documents: DocumentSet, batch_size: int, argument: str = "batch_size") -> ContiguousBatches:
        """Return a loader of documents as one long text, one behind the other: ``(tokens (T, B), targets (T, B))``.

        Args:
            documents: In this order.
            batch_size: Columns of one process, at least 1.
            argument: Name of the argument that gave it, for messages.

        Raises:
            ValueError: If there are too few tokens for so many columns.
        """
        text = documents.joined()
        # Read from its end, a document follows its own end token, as in the backward layer of a classifier.
        text = text[::-1] if self.reverse else text
        return ContiguousBatches(
            text,
            batch_size,
            self.max_tokens,
            rank=self.rank,
            world_size=self.world_size,
            size_argument=argument,
        )

"""Loaders of encoded documents: batch by batch, or as one long text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
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


def bucket_loader(dataset: DocumentDataset, sampler: LengthBuckets, num_workers: int) -> DataLoader[TextBatch]:
    """Return a loader of the batches that a sampler makes.

    Args:
        dataset: Of all documents.
        sampler: Whose numbers are those of the dataset.
        num_workers: Worker processes, at least 0.

    Returns:
        The loader of `TextBatch`.

    Example:
        >>> documents = DocumentSet.of(np.array([5, 2, 7, 6, 2]), lengths=np.array([2, 3]), labels=np.array([0, 1]))
        >>> dataset = DocumentDataset(documents, max_tokens=9, padding_index=1)
        >>> loader = bucket_loader(dataset, LengthBuckets(dataset.lengths, batch_size=2, shuffle=False), num_workers=0)
        >>> [batch.tokens.tolist() for batch in loader]
        [[[5, 2, 1], [7, 6, 2]]]
    """
    return DataLoader(
        dataset,
        batch_size=None,  # the sampler makes the batches
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=keep_batch,
        persistent_workers=num_workers > 0,
    )


def text_loader(
    documents: DocumentSet, batch_size: int, length: int, *, reverse: bool = False, rank: int = 0, world_size: int = 1
) -> ContiguousBatches:
    """Return a loader of documents as one long text, one behind the other.

    Args:
        documents: At least so many that every column has two tokens.
        batch_size: Columns of one process, at least 1.
        length: Steps of a batch, at least 1.
        reverse: Whether the whole text is read from its end. What a document follows is an end token, then, too: that
            of its own, as for the backward layer of a bidirectional classifier.
        rank: Number of this process, from 0 to ``world_size - 1``.
        world_size: Number of processes, at least 1.

    Returns:
        The loader of ``(tokens (T, B), targets (T, B))``.

    Raises:
        ValueError: If there are too few tokens for so many columns.

    Example:
        >>> documents = DocumentSet.of(np.array([5, 2, 7, 6, 2]), lengths=np.array([2, 3]), labels=np.array([0, 1]))
        >>> [tokens.T.tolist() for tokens, _ in text_loader(documents, batch_size=1, length=9, reverse=True)]
        [[[2, 6, 7, 2]]]
    """
    text = documents.joined()
    return ContiguousBatches(text[::-1] if reverse else text, batch_size, length, rank=rank, world_size=world_size)

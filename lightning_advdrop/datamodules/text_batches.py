"""Documents as batches: padding, and batches of documents that are about equally long."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from lightning_advdrop.datamodules.checks import MAX_SEED, check_integer, check_integers
from lightning_advdrop.datamodules.encoding import DocumentSet

UNLABELLED = -100
"""The label of a document that has none: cross-entropy's ``ignore_index``."""

_BATCHES_IN_A_POOL = 50


class TextBatch(NamedTuple):
    """Documents of numbered words, padded at the right to the longest of them.

    Example:
        >>> batch = pad_documents([np.array([5, 2]), np.array([7, 6, 2])], [1, UNLABELLED], padding_index=1)
        >>> batch.tokens.tolist(), batch.lengths.tolist(), batch.labels.tolist()
        ([[5, 2, 1], [7, 6, 2]], [2, 3], [1, -100])
    """

    tokens: Tensor
    """``(B, T)`` of dtype ``int64``: the words' numbers, then the padding index."""
    lengths: Tensor
    """``(B,)`` of dtype ``int64``, from 1 to ``T``: tokens of each document, the end token included."""
    labels: Tensor
    """``(B,)`` of dtype ``int64``: from 0, or `UNLABELLED`."""


def pad_documents(
    documents: Sequence[npt.NDArray[np.integer[Any]]], labels: Sequence[int], padding_index: int
) -> TextBatch:
    """Put documents together to a batch.

    Args:
        documents: The numbers of each document's words, at least one document and one word in each.
        labels: As many labels, from 0, or `UNLABELLED`.
        padding_index: Stands behind the end of the shorter documents.

    Returns:
        The batch, in the order of ``documents``.

    Raises:
        ValueError: If there is no document, one is empty, or there are not as many labels.

    Example:
        >>> pad_documents([np.array([4, 2])], [0], padding_index=1).lengths
        tensor([2])
    """
    if not documents or len(documents) != len(labels):
        raise ValueError(
            "documents must be at least one, with a label for each,"
            f" got {len(documents)} documents and {len(labels)} labels"
        )
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    if not lengths.all():
        raise ValueError(f"documents must have at least one token each, got none in number {int(lengths.argmin())}")
    tokens = np.full((len(documents), int(lengths.max())), padding_index, dtype=np.int64)
    for row, document in zip(tokens, documents, strict=True):
        row[: len(document)] = document
    return TextBatch(
        torch.from_numpy(tokens), torch.from_numpy(lengths), torch.from_numpy(np.array(labels, dtype=np.int64))
    )


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


class LengthBuckets(DistributedSampler[list[int]]):
    """Batches of documents that are about equally long, in an order made by seed and epoch alone.

    Passes over all documents follow one another without end. In each, the documents are shuffled, sorted by length
    within pools of 50 batches, cut into batches, and the batches shuffled; an epoch is a stretch of ``num_batches`` of
    this sequence. So every document comes once before any comes twice, however long an epoch is, and a run that was
    stopped after an epoch and resumed sees the batches of an uninterrupted one. Of each batch, one of ``world_size``
    processes gets the documents that are its share: all of them get as many batches, of about the same lengths. Where
    the documents cannot be dealt out evenly, the first ones of the pass are repeated.

    It yields lists of numbers and is meant for ``DataLoader(dataset, sampler=LengthBuckets(...), batch_size=None)``.
    It is a ``DistributedSampler`` so that Lightning tells it the epoch and leaves it in place in distributed runs.

    Args:
        lengths: Length of each document, ``(N,)``, at least one document.
        batch_size: Documents in a batch of one process, at least 1. The last batch of a pass may be smaller.
        shuffle: Whether to shuffle; otherwise the documents come sorted by length, the same in every epoch.
        num_batches: Batches in an epoch, at least 1; ``None`` for one pass.
        seed: Of the order, from 0 to ``2**32 - 1``.
        rank: Which share to yield, from 0 to ``world_size - 1``.
        world_size: Number of shares, at least 1.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> buckets = LengthBuckets([3, 9, 4, 8], batch_size=2, seed=1)
        >>> sorted(sorted(batch) for batch in buckets)
        [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        lengths: Sequence[int] | npt.NDArray[np.integer[Any]],
        batch_size: int,
        *,
        shuffle: bool = True,
        num_batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_integers(1, batch_size=batch_size, world_size=world_size)
        check_integers(1, optional=True, num_batches=num_batches)
        check_integer("seed", seed, low=0, high=MAX_SEED)
        check_integer("rank", rank, low=0, high=world_size - 1)
        if not len(lengths):
            raise ValueError("lengths must hold at least one document, got none")
        self._lengths = np.asarray(lengths)
        super().__init__(self._lengths, world_size, rank, shuffle, seed)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.batches_in_a_pass = -(-len(lengths) // (batch_size * world_size))
        self.num_batches = self.batches_in_a_pass if num_batches is None else num_batches

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        start = self.epoch * self.num_batches if self.shuffle else 0
        number, position = divmod(start, self.batches_in_a_pass)
        batches = self._pass(number)
        for _ in range(self.num_batches):
            if position == len(batches):
                number, position = number + 1, 0
                batches = self._pass(number)
            yield batches[position][self.rank :: self.num_replicas].tolist()
            position += 1

    def _pass(self, number: int) -> list[npt.NDArray[np.int64]]:
        """The batches of one pass, each with the documents of all processes."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self._lengths)) if self.shuffle else np.arange(len(self._lengths))
        order = np.resize(order, -(-len(order) // self.num_replicas) * self.num_replicas)
        size = self.batch_size * self.num_replicas
        pool = size * _BATCHES_IN_A_POOL if self.shuffle else len(order)
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(order), pool):
            chosen = order[start : start + pool]
            chosen = chosen[np.argsort(self._lengths[chosen], kind="stable")]
            batches.extend(chosen[first : first + size] for first in range(0, len(chosen), size))
        return [batches[index] for index in rng.permutation(len(batches))] if self.shuffle else batches

"""Batches of documents and raw texts: padding, and grouping by length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from lightning_advdrop.datamodules.checks import MAX_SEED, check_integers
from lightning_advdrop.datamodules.encoding import DocumentSet
from lightning_advdrop.datamodules.text import END, PADDING, Tokenizer, Vocabulary, find_tokenizer

UNLABELLED = -100
"""Label of an unlabelled document: cross-entropy's ``ignore_index``."""

_BATCHES_IN_A_POOL = 50


class TextBatch(NamedTuple):
    """Documents as word indices, padded on the right to the longest one.

    Example:
        >>> batch = pad_documents([np.array([5, 2]), np.array([7, 6, 2])], [1, UNLABELLED], padding_index=1)
        >>> batch.tokens.tolist(), batch.lengths.tolist(), batch.labels.tolist()
        ([[5, 2, 1], [7, 6, 2]], [2, 3], [1, -100])
    """

    tokens: Tensor
    """``(B, T)`` of dtype ``int64``: word indices, then the padding index."""
    lengths: Tensor
    """``(B,)`` of dtype ``int64``, from 1 to ``T``: tokens of each document, end token included."""
    labels: Tensor
    """``(B,)`` of dtype ``int64``: from 0, or `UNLABELLED`."""


def pad_documents(
    documents: Sequence[npt.NDArray[np.integer[Any]]], labels: Sequence[int], padding_index: int
) -> TextBatch:
    """Collate the word indices of documents and their labels to a batch, in their order.

    Raises:
        ValueError: If there is no document, one is empty, or there are not as many labels.
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


def encode_documents(
    texts: Sequence[str], vocabulary: Vocabulary, max_tokens: int | None = 400, tokenizer: Tokenizer = "punctuation"
) -> TextBatch:
    """Encode raw texts like the documents of a data module.

    Args:
        texts: At least one text.
        vocabulary: Words, ``<unk>``, ``<pad>`` and ``<eos>`` among them.
        max_tokens: Keep the last ``max_tokens`` tokens of a text, end token included, at least 1; ``None`` for all.
        tokenizer: Where to split a text into words: ``"punctuation"``, or ``"blanks"`` for texts like Elec's.

    Returns:
        A batch in the order of ``texts``; labels are `UNLABELLED`.

    Raises:
        TypeError: If ``max_tokens`` is no integer.
        ValueError: If there is no text, or ``max_tokens`` or ``tokenizer`` is out of its range.

    Example:
        >>> vocabulary = Vocabulary(["<unk>", "<pad>", "<eos>", "Good"], [0, 0, 0, 5], unknown="<unk>")
        >>> encode_documents(["Good film!", ""], vocabulary).tokens
        tensor([[3, 0, 2],
                [2, 1, 1]])
    """
    check_integers(1, optional=True, max_tokens=max_tokens)
    split = find_tokenizer(tokenizer)
    keep = slice(None) if max_tokens is None else slice(-max_tokens, None)
    documents = [np.array(vocabulary.encode([*split(text), END])[keep]) for text in texts]
    return pad_documents(documents, [UNLABELLED] * len(documents), vocabulary.index[PADDING])


@dataclass(frozen=True)
class DocumentDataset(Dataset[TextBatch]):
    """Data set that returns a `TextBatch` for a list of indices.

    Example:
        >>> documents = DocumentSet(np.array([5, 2, 7, 6, 2]), np.array([0, 2]), np.array([2, 3]), np.array([0, 1]))
        >>> DocumentDataset(documents.shortened(2), padding_index=1)[[1, 0]].tokens.tolist()
        [[6, 2], [5, 2]]
    """

    documents: DocumentSet
    padding_index: int

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, numbers: list[int]) -> TextBatch:
        labels = self.documents.labels[numbers].tolist()
        return pad_documents([self.documents[number] for number in numbers], labels, self.padding_index)

    __getitems__ = __getitem__


class LengthBuckets(DistributedSampler[list[int]]):
    """Sampler of batches of documents of similar length, in an order given by seed and epoch alone.

    The sampler runs through an endless sequence of passes over all documents. In each pass the documents are shuffled,
    sorted by length within pools of 50 batches, and cut into batches, which are shuffled again; an epoch is the next
    ``num_batches`` batches. Every document thus comes once before any comes twice, however long an epoch is, and a run
    resumed after an epoch sees the batches of an uninterrupted one. Each of ``world_size`` processes gets its share of
    each batch: equally many batches, of similar lengths. If the documents cannot be divided evenly, the first ones of
    the pass are repeated.

    It yields lists of indices, for ``DataLoader(dataset, sampler=LengthBuckets(...), batch_size=None)``. It is a
    ``DistributedSampler`` so that Lightning sets its epoch and leaves it in place in distributed runs.

    Args:
        lengths: Length of each document, ``(N,)``, at least one document.
        batch_size: Documents in a batch of one process, at least 1. The last batch of a pass may be smaller.
        shuffle: Whether to shuffle; otherwise the documents are sorted by length, the same in every epoch.
        num_batches: Batches in an epoch, at least 1; ``None`` for one pass.
        seed: Seed of the order, from 0 to ``2**32 - 1``.
        rank: Rank of this process, from 0 to ``world_size - 1``.
        world_size: Number of processes, at least 1.

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
        check_integers(0, MAX_SEED, seed=seed)
        check_integers(0, world_size - 1, rank=rank)
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
        places = (divmod(place, self.batches_in_a_pass) for place in range(start, start + self.num_batches))
        for number, in_pass in groupby(places, key=itemgetter(0)):
            batches = self._pass(number)
            yield from (batches[place][self.rank :: self.num_replicas].tolist() for _, place in in_pass)

    def _pass(self, number: int) -> list[npt.NDArray[np.int64]]:
        """Return the batches of one pass, each with the documents of all processes."""
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

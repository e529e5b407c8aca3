"""Documents encoded once: numbers of words in memory-mapped arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from lightning_advdrop.datamodules.document_files import Document, DocumentError
from lightning_advdrop.datamodules.text import Vocabulary

FORMAT = 1
"""Version of the files in the store: part of the settings under which they are kept."""
UNKNOWN, PADDING, END = "<unk>", "<pad>", "<eos>"
"""Words that stand for all others, for nothing, and for the end of a document: numbers 0, 1 and 2."""
SPECIALS = (UNKNOWN, PADDING, END)
VALIDATION_SHARE = 0.15
"""Share of the labelled training documents that is for validation."""

# Not the user's seed: results of different seeds are to be measured on the same documents.
_SPLIT_SEED = 0
_VOCABULARY = "vocabulary.json"

Integers = npt.NDArray[np.integer[Any]]


class _Numbers(dict[str, int]):
    """Gives each new word the next number."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


@dataclass
class _Part:
    """Documents of one part in the order in which they were read: C arrays, of four bytes a word."""

    tokens: array[int] = field(default_factory=lambda: array("i"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    keys: list[str | int] = field(default_factory=list)

    def sorted(self) -> DocumentSet:
        """The documents in the order of their keys."""
        tokens, lengths, labels = (np.array(values) for values in (self.tokens, self.lengths, self.labels))
        read = DocumentSet.of(tokens, lengths, labels)
        return read.choose(np.array(sorted(range(len(self.keys)), key=self.keys.__getitem__), dtype=np.int64))


@dataclass(frozen=True)
class DocumentSet:
    """Documents as numbers of words.

    Example:
        >>> documents = DocumentSet.of(np.array([5, 2, 7, 6, 2]), lengths=np.array([2, 3]), labels=np.array([0, 1]))
        >>> documents.choose(np.array([1, 0])).joined().tolist()
        [7, 6, 2, 5, 2]
    """

    tokens: Integers
    """``(total,)``: documents one behind the other, each with its end token; others may lie between them."""
    starts: Integers
    """Where each document begins, ``(N,)``."""
    lengths: Integers
    """Tokens of each document, ``(N,)``."""
    labels: Integers
    """``(N,)``."""

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, tokens: Integers, lengths: Integers, labels: Integers) -> DocumentSet:
        """Make a set of documents that lie one behind the other.

        Args:
            tokens: ``(total,)``.
            lengths: ``(N,)``.
            labels: ``(N,)``.
        """
        return cls(tokens, np.cumsum(lengths) - lengths, lengths, labels)

    @classmethod
    def concatenate(cls, first: DocumentSet, second: DocumentSet) -> DocumentSet:
        """Return the documents of two sets, copied.

        Args:
            first: The ones that come first.
            second: The others.
        """
        pairs = ((first.joined(), second.joined()), (first.lengths, second.lengths), (first.labels, second.labels))
        return cls.of(*(np.concatenate(pair) for pair in pairs))

    def choose(self, numbers: Integers) -> DocumentSet:
        """Return some of the documents in another order; their tokens are not copied.

        Args:
            numbers: Which ones, ``(M,)``.
        """
        return DocumentSet(self.tokens, self.starts[numbers], self.lengths[numbers], self.labels[numbers])

    def last_tokens(self, number: int, most: int) -> Integers:
        """Return the end of a document.

        Args:
            number: Of the document, from 0.
            most: The most tokens, at least 1.

        Returns:
            ``(T,)``: a view.
        """
        end = self.starts[number] + self.lengths[number]
        return self.tokens[max(self.starts[number], end - most) : end]

    def joined(self) -> Integers:
        """Return a copy of the documents one behind the other, ``(total,)``."""
        joined = np.empty(int(self.lengths.sum()), dtype=self.tokens.dtype)
        ends = np.cumsum(self.lengths)
        for start, length, end in zip(self.starts, self.lengths, ends, strict=True):
            joined[end - length : end] = self.tokens[start : start + length]
        return joined

    def save(self, folder: Path, part: str) -> None:
        """Write the documents.

        Args:
            folder: Where to.
            part: Name of the part; a store has several.
        """
        for name, values in (("tokens", self.joined()), ("lengths", self.lengths), ("labels", self.labels)):
            np.save(folder / f"{part}.{name}.npy", values, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, part: str) -> DocumentSet:
        """Open what `save` wrote: the tokens stay on the disk until they are asked for.

        Args:
            folder: Where from.
            part: Name of the part.
        """
        tokens = np.load(folder / f"{part}.tokens.npy", mmap_mode="r")
        lengths, labels = (np.load(folder / f"{part}.{name}.npy") for name in ("lengths", "labels"))
        return cls.of(tokens, lengths, labels)


def stratified_order(labels: Integers, seed: int) -> npt.NDArray[np.int64]:
    """Shuffle documents so that every beginning of the order has the classes in their proportions.

    Args:
        labels: ``(N,)``.
        seed: Of the order, from 0 to ``2**32 - 1``.

    Returns:
        Permutation ``(N,)``.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> np.bincount(labels[stratified_order(labels, seed=3)[:4]]).tolist()
        [2, 2]
    """
    rng = np.random.RandomState(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        place[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")


def build_store(documents: Iterable[Document], folder: Path, max_vocabulary: int, name: str) -> None:
    """Read documents once, number their words and write them as arrays.

    A fixed share of the training documents, the same in every class, is for validation. Words are those of training
    and unlabelled documents that occur in more than one of them (Miyato, Dai & Goodfellow 2017, arXiv 1605.07725); the
    most frequent ones where they are too many.

    Args:
        documents: In any order.
        folder: Where to put the arrays and the vocabulary.
        max_vocabulary: The most words, at least 1, not counting those for unknown words, padding and end.
        name: What is prepared, for the progress bar.

    Raises:
        DocumentError: If there are no documents for training, validation or test. What reading raises is passed on.
    """
    words, parts = _number(tqdm(documents, desc=f"Encoding {name}", unit=" documents", disable=None))
    order = stratified_order(parts["train"].labels, _SPLIT_SEED)
    held_out = round(VALIDATION_SHARE * len(order))
    parts["validation"] = parts["train"].choose(np.sort(order[:held_out]))
    parts["train"] = parts["train"].choose(np.sort(order[held_out:]))
    for part in ("train", "validation", "test"):
        if not len(parts[part]):
            raise DocumentError(f"{name} has no documents for {part}: expected at least 4 for training and 1 for test")
    vocabulary = _choose_words(words, DocumentSet.concatenate(parts["train"], parts["unlabelled"]), max_vocabulary)
    vocabulary.save(folder / _VOCABULARY)
    final = np.array(vocabulary.encode(words), dtype=np.int32)
    for part, encoded in parts.items():
        DocumentSet.of(final[encoded.joined()], encoded.lengths, encoded.labels).save(folder, part)


def _number(documents: Iterable[Document]) -> tuple[list[str], dict[str, DocumentSet]]:
    """Give each word a number at its first occurrence; the end token's is 0, and that of words that mean it isn't."""
    numbers = _Numbers({"": 0})  # no word is empty
    parts = {name: _Part() for name in ("train", "test", "unlabelled")}
    for document in documents:
        part = parts[document.part]
        part.tokens.extend(map(numbers.__getitem__, document.words))
        part.tokens.append(0)
        part.lengths.append(len(document.words) + 1)
        part.labels.append(document.label)
        part.keys.append(document.key)
    words = [END, *(UNKNOWN if word in SPECIALS else word for word in list(numbers)[1:])]
    return words, {name: parts.pop(name).sorted() for name in list(parts)}


def _choose_words(words: list[str], documents: DocumentSet, max_vocabulary: int) -> Vocabulary:
    """The vocabulary of documents that are encoded with the numbers that ``words`` have, the end token's being 0."""
    tokens, lengths = documents.joined(), documents.lengths
    document = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    # Where a number comes more than once, the last assignment stays: a word's first and last document.
    first, last = np.full(len(words), -1, dtype=np.int32), np.full(len(words), -1, dtype=np.int32)
    last[tokens] = document
    first[tokens[::-1]] = document[::-1]
    occurrences = np.bincount(tokens, minlength=len(words))
    counts = {words[number]: int(occurrences[number]) for number in np.flatnonzero(first != last)}
    counts[END] = int(occurrences[0])
    counts.pop(UNKNOWN, None)
    vocabulary = Vocabulary.build(counts, specials=SPECIALS, max_size=max_vocabulary, unknown=UNKNOWN)
    unknown = len(tokens) - sum(vocabulary.counts)
    return Vocabulary(vocabulary.words, [unknown, *vocabulary.counts[1:]], UNKNOWN)


def load_vocabulary(folder: Path) -> Vocabulary:
    """Read the vocabulary of a store.

    Args:
        folder: Of the store.

    Returns:
        The words and how often they occur in the documents for training, labelled or not.
    """
    return Vocabulary.load(folder / _VOCABULARY)

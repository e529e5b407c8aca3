"""Documents as word indices: encoded once, then read from memory-mapped arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_advdrop.datamodules.text import END, UNKNOWN, Vocabulary
from lightning_advdrop.datamodules.text_files import Document, DocumentError, Part

FORMAT = 2
"""Version of the files: a new one has all data prepared anew."""
VALIDATION_SHARE = 0.15
"""Share of the training documents held out for validation if the data set has no validation documents."""

_PARTS: tuple[Part, ...] = ("train", "validation", "test", "unlabelled")
# Not the user's seed: all seeds are evaluated on the same documents.
_SPLIT_SEED = 0
_VOCABULARY = "vocabulary.json"

Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class DocumentSet:
    """Documents as word indices.

    Example:
        >>> documents = DocumentSet.of(np.array([5, 2, 7, 6, 2]), lengths=np.array([2, 3]), labels=np.array([0, 1]))
        >>> documents.choose(np.array([1, 0])).joined().tolist()
        [7, 6, 2, 5, 2]
    """

    tokens: Integers
    """``(total,)``: all documents; gaps between them are allowed."""
    starts: Integers
    """Index of the first token of each document, ``(N,)``."""
    lengths: Integers
    """Number of tokens of each document, ``(N,)``."""
    labels: Integers
    """Class of each document, ``(N,)``."""

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, tokens: Integers, lengths: Integers, labels: Integers) -> DocumentSet:
        """Make a set of documents without gaps, from arrays ``(total,)``, ``(N,)`` and ``(N,)``."""
        return cls(tokens, np.cumsum(lengths) - lengths, lengths, labels)

    @classmethod
    def concatenate(cls, first: DocumentSet, second: DocumentSet) -> DocumentSet:
        """Return a copy of the documents of both sets, without gaps."""
        pairs = ((first.joined(), second.joined()), (first.lengths, second.lengths), (first.labels, second.labels))
        return cls.of(*(np.concatenate(pair) for pair in pairs))

    def choose(self, numbers: Integers) -> DocumentSet:
        """Select documents by index ``(M,)``, in this order; their tokens are not copied."""
        return DocumentSet(self.tokens, self.starts[numbers], self.lengths[numbers], self.labels[numbers])

    def last_tokens(self, number: int, most: int) -> Integers:
        """Return a view of the last tokens ``(T,)`` of a document: at most ``most``, which is at least 1."""
        end = self.starts[number] + self.lengths[number]
        return self.tokens[max(self.starts[number], end - most) : end]

    def joined(self) -> Integers:
        """Return a copy of the tokens of all documents, without gaps, ``(total,)``."""
        joined = np.empty(int(self.lengths.sum()), dtype=self.tokens.dtype)
        ends = np.cumsum(self.lengths)
        for start, length, end in zip(self.starts, self.lengths, ends, strict=True):
            joined[end - length : end] = self.tokens[start : start + length]
        return joined


@dataclass(frozen=True)
class WordRules:
    """Rules for the vocabulary and the ends of documents."""

    specials: tuple[str, ...]
    """First words of the vocabulary: `UNKNOWN`, then others, `END` among them."""
    min_count: int = 1
    """Fewest occurrences of a word in the training documents, labelled or not; at least 1."""
    max_words: int | None = None
    """Most words beside ``specials``; the most frequent ones are kept. ``None`` for no limit."""
    repeated: bool = False
    """Whether a word must occur in more than one of these documents."""
    marked: bool = False
    """Whether the texts contain special words. If not, `END` is added to each document, and words spelled like special
    ones are unknown."""


@dataclass(frozen=True)
class Corpus:
    r"""Encoded documents and their vocabulary; a running text is one document.

    Example:
        >>> texts = {"train": "to be or not to be", "validation": "to err", "test": "be"}
        >>> documents = [Document(part, 0, 0, text.split()) for part, text in texts.items()]
        >>> corpus = Corpus.encode(documents, WordRules((UNKNOWN, END)))
        >>> [corpus.vocabulary.words[number] for number in corpus.parts["validation"].tokens]
        ['to', '<unk>', '<eos>']
    """

    parts: Mapping[Part, DocumentSet]
    """Documents without gaps by part: ``"train"``, ``"validation"``, ``"test"`` and ``"unlabelled"``."""
    vocabulary: Vocabulary
    """Words, counted in the training documents, labelled or not."""

    @classmethod
    def encode(cls, documents: Iterable[Document], rules: WordRules, name: str = "corpus") -> Corpus:
        """Read documents once, build the vocabulary and encode them.

        Without validation documents, a fixed share of the training documents of each class is held out.

        Args:
            documents: In any order.
            rules: Rules for the vocabulary and the ends of documents.
            name: Name of the data set, for messages.

        Raises:
            DocumentError: If there are no documents for training, validation or test.
        """
        words, parts = _number(documents, rules)
        if not len(parts["validation"]):
            order = stratified_order(parts["train"].labels, _SPLIT_SEED)
            held_out = round(VALIDATION_SHARE * len(order))
            parts["validation"] = parts["train"].choose(np.sort(order[:held_out]))
            parts["train"] = parts["train"].choose(np.sort(order[held_out:]))
        for part in ("train", "validation", "test"):
            if not len(parts[part]):
                raise DocumentError(
                    f"{name} has no documents for {part}: expected at least 4 for training and 1 for test"
                )
        vocabulary = _choose_words(words, DocumentSet.concatenate(parts["train"], parts["unlabelled"]), rules)
        final = np.array(vocabulary.encode(words), dtype=np.int32)
        for part, read in parts.items():
            parts[part] = DocumentSet.of(final[read.joined()], read.lengths, read.labels)
        return cls(parts, vocabulary)

    def save(self, folder: Path) -> None:
        """Write the corpus to a folder."""
        self.vocabulary.save(folder / _VOCABULARY)
        for part, documents in self.parts.items():
            for name in ("tokens", "lengths", "labels"):
                np.save(folder / f"{part}.{name}.npy", getattr(documents, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Open a saved corpus; its tokens are read-only memory maps."""
        parts = {}
        for part in _PARTS:
            tokens = np.load(folder / f"{part}.tokens.npy", mmap_mode="r")
            lengths, labels = (np.load(folder / f"{part}.{name}.npy") for name in ("lengths", "labels"))
            parts[part] = DocumentSet.of(tokens, lengths, labels)
        return cls(parts, Vocabulary.load(folder / _VOCABULARY))


def stratified_order(labels: Integers, seed: int) -> npt.NDArray[np.int64]:
    """Shuffle documents so that every prefix of the order has the class proportions of the whole.

    Args:
        labels: ``(N,)``.
        seed: Seed of the order, from 0 to ``2**32 - 1``.

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


class _Numbers(dict[str, int]):
    """Dictionary that gives each new word the next number."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


@dataclass
class _Read:
    """Documents of one part in the order of reading, in C arrays: four bytes a word."""

    tokens: array[int] = field(default_factory=lambda: array("i"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    keys: list[str | int] = field(default_factory=list)

    def sorted(self) -> DocumentSet:
        """Return the documents in the order of their keys."""
        tokens, lengths, labels = (np.array(values) for values in (self.tokens, self.lengths, self.labels))
        order = np.array(sorted(range(len(self.keys)), key=self.keys.__getitem__), dtype=np.int64)
        return DocumentSet.of(tokens, lengths, labels).choose(order)


def _number(documents: Iterable[Document], rules: WordRules) -> tuple[list[str], dict[Part, DocumentSet]]:
    """Number the words in the order of their first occurrence; `END` is number 0."""
    numbers = _Numbers({END if rules.marked else "": 0})  # no word is empty
    read = {name: _Read() for name in _PARTS}
    for document in documents:
        part = read[document.part]
        before = len(part.tokens)
        part.tokens.extend(map(numbers.__getitem__, document.words))
        if not rules.marked:
            part.tokens.append(0)
        part.lengths.append(len(part.tokens) - before)
        part.labels.append(document.label)
        part.keys.append(document.key)
    words = [END, *(UNKNOWN if word in rules.specials else word for word in list(numbers)[1:])]
    return words, {name: read.pop(name).sorted() for name in _PARTS}


def _choose_words(words: list[str], documents: DocumentSet, rules: WordRules) -> Vocabulary:
    """Choose the vocabulary of documents without gaps, encoded as indices of ``words``."""
    tokens, lengths = documents.tokens, documents.lengths
    occurrences = np.bincount(tokens, minlength=len(words))
    chosen = occurrences > 0
    if rules.repeated:
        document = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        # The last assignment to an index wins, which gives the last and the first document of each word.
        first, last = np.full(len(words), -1, dtype=np.int32), np.full(len(words), -1, dtype=np.int32)
        last[tokens] = document
        first[tokens[::-1]] = document[::-1]
        chosen = first != last
    counts = {words[number]: int(occurrences[number]) for number in np.flatnonzero(chosen)}
    counts[END] = int(occurrences[0])
    counts.pop(UNKNOWN, None)
    vocabulary = Vocabulary.build(
        counts, specials=rules.specials, min_count=rules.min_count, max_size=rules.max_words, unknown=UNKNOWN
    )
    unknown = len(tokens) - sum(vocabulary.counts)
    return Vocabulary(vocabulary.words, [unknown, *vocabulary.counts[1:]], UNKNOWN)

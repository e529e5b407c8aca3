"""Documents as word indices: encoded once, then read from memory-mapped arrays."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_advdrop.datamodules.text import END, UNKNOWN, Vocabulary
from lightning_advdrop.datamodules.text_files import Document, DocumentError, Part

FORMAT = 3
"""Version of the files: a new one has all data prepared anew."""
VALIDATION_SHARE = 0.15
"""Share of the training documents held out for validation if the data set has no validation documents."""

_PARTS: tuple[Part, ...] = ("train", "validation", "test", "unlabelled")
# Not the user's seed: all seeds are evaluated on the same documents.
_SPLIT_SEED = 0
_VOCABULARY, _TOKENS = "vocabulary.json", "tokens.npy"

Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class DocumentSet:
    """Documents as word indices.

    Example:
        >>> documents = DocumentSet(np.array([5, 2, 7, 6, 2]), np.array([0, 2]), np.array([2, 3]), np.array([0, 1]))
        >>> documents.choose(np.array([1, 0])).joined().tolist()
        [7, 6, 2, 5, 2]
    """

    tokens: Integers
    """``(total,)``: these documents, and maybe others between them."""
    starts: Integers
    """Index of the first token of each document, ``(N,)``."""
    lengths: Integers
    """Number of tokens of each document, ``(N,)``."""
    labels: Integers
    """Class of each document, ``(N,)``."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> Integers:
        return self.tokens[self.starts[number] : self.starts[number] + self.lengths[number]]

    def __add__(self, other: DocumentSet) -> DocumentSet:
        """Join two sets of documents of the same ``tokens``."""
        pairs = ((self.starts, other.starts), (self.lengths, other.lengths), (self.labels, other.labels))
        return DocumentSet(self.tokens, *map(np.concatenate, pairs))

    def choose(self, numbers: Integers) -> DocumentSet:
        """Select documents by index ``(M,)``, in this order; their tokens are not copied."""
        return DocumentSet(self.tokens, self.starts[numbers], self.lengths[numbers], self.labels[numbers])

    def shortened(self, most: int) -> DocumentSet:
        """Keep the last tokens of each document: at most ``most``, which is at least 1; they are not copied."""
        lengths = np.minimum(self.lengths, most)
        return DocumentSet(self.tokens, self.starts + self.lengths - lengths, lengths, self.labels)

    def joined(self) -> Integers:
        """Return a copy of the tokens of all documents, one after the other, ``(sum of lengths,)``."""
        tokens = np.asarray(self.tokens)  # views of memory maps are slow to make
        documents = (tokens[start : start + length] for start, length in zip(self.starts, self.lengths, strict=True))
        return np.concatenate([tokens[:0], *documents])


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
        >>> [corpus.vocabulary.words[number] for number in corpus.parts["validation"][0]]
        ['to', '<unk>', '<eos>']
    """

    parts: Mapping[Part, DocumentSet]
    """Documents by part: ``"train"``, ``"validation"``, ``"test"`` and ``"unlabelled"``, all of the same ``tokens``."""
    vocabulary: Vocabulary
    """Words, counted in the training documents, labelled or not."""

    @classmethod
    def encode(cls, documents: Iterable[Document], rules: WordRules, name: str = "corpus") -> Corpus:
        """Read documents in any order, once, build the vocabulary and encode them.

        Without validation documents, a fixed share of the training documents of each class is held out.

        Raises:
            DocumentError: If there are no documents for training, validation or test; it names the data set.
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
        vocabulary = _choose_words(words, parts["train"] + parts["unlabelled"], rules)
        tokens = np.array(vocabulary.encode(words), dtype=np.int32)[parts["train"].tokens]
        return cls({part: replace(read, tokens=tokens) for part, read in parts.items()}, vocabulary)

    def save(self, folder: Path) -> None:
        """Write the corpus to a folder."""
        self.vocabulary.save(folder / _VOCABULARY)
        np.save(folder / _TOKENS, self.parts["train"].tokens)
        for part, documents in self.parts.items():
            np.save(folder / f"{part}.npy", np.stack([documents.starts, documents.lengths, documents.labels]))

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Open a saved corpus; its tokens are read-only memory maps.

        Raises:
            DocumentError: If its files are missing, truncated or damaged; it names the folder.
        """
        try:
            tokens = np.load(folder / _TOKENS, mmap_mode="r")
            parts = {part: DocumentSet(tokens, *np.load(folder / f"{part}.npy")) for part in _PARTS}
            return cls(parts, Vocabulary.load(folder / _VOCABULARY))
        except Exception as error:  # whatever damage makes of arrays and JSON
            found = error.strerror if isinstance(error, OSError) and error.strerror else "truncated or damaged"
            raise DocumentError(
                f"{folder} must hold texts as they were prepared, got files that can't be read ({found}); delete this"
                " folder to have them prepared anew"
            ) from error


def stratified_order(labels: Integers, seed: int) -> npt.NDArray[np.int64]:
    """Return a permutation ``(N,)`` of documents whose every prefix has the class proportions of the whole.

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


def _number(documents: Iterable[Document], rules: WordRules) -> tuple[list[str], dict[Part, DocumentSet]]:
    """Number the words in the order of their first occurrence; `END` is number 0."""
    numbers = defaultdict(count(1).__next__, {END if rules.marked else "": 0})  # no word is empty
    tokens = array("i")  # four bytes a word
    read: dict[Part, list[tuple[str | int, int, int, int]]] = {part: [] for part in _PARTS}
    for document in documents:
        start = len(tokens)
        tokens.extend(map(numbers.__getitem__, document.words))
        if not rules.marked:
            tokens.append(0)
        read[document.part].append((document.key, start, len(tokens) - start, document.label))
    words = [END, *(UNKNOWN if word in rules.specials else word for word in list(numbers)[1:])]
    parts = {}
    for part, rows in read.items():
        starts, lengths, labels = np.array([row[1:] for row in sorted(rows)], dtype=np.int64).reshape(-1, 3).T
        parts[part] = DocumentSet(np.asarray(tokens), starts, lengths, labels)
    return words, parts


def _choose_words(words: list[str], documents: DocumentSet, rules: WordRules) -> Vocabulary:
    """Choose the vocabulary of documents that are encoded as indices of ``words``."""
    tokens = documents.joined()
    occurrences = np.bincount(tokens, minlength=len(words))
    chosen = occurrences > 0
    if rules.repeated:
        document = np.repeat(np.arange(len(documents), dtype=np.int32), documents.lengths)
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
    vocabulary.counts[0] = len(tokens) - sum(vocabulary.counts)
    return vocabulary

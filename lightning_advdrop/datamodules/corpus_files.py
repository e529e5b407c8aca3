"""Three texts as numbers of words: written once, read as memory maps."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_files import (
    END_OF_LINE,
    UNKNOWN,
    TextFormatError,
    TextSource,
    Tokens,
    fingerprint,
    read_words,
)

Split = Literal["train", "validation", "test"]
TokenArray = npt.NDArray[np.int32]
"""Word numbers ``(N,)``."""

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_VOCABULARY = "vocabulary.json"
# Part of what the content depends on: raise it when the same files are to give other numbers.
_VERSION = 1


@dataclass(frozen=True)
class Corpus:
    """Three texts, how words are found in them, and what must be found.

    Attributes:
        sources: Where the texts lie.
        tokens: How words are found, see :func:`~lightning_advdrop.datamodules.text_files.read_words`.
        min_count: The fewest times that a word of the vocabulary occurs in the training text.
        max_words: The most words of the vocabulary beside ``<unk>`` and ``<eos>``; ``None`` for no limit.
        n_tokens: Words that each text must have, ends of lines included; ``None`` where any number is right.
        n_words: Words that the vocabulary must have; ``None`` where any number is right.

    Example:
        >>> corpus = Corpus(dict.fromkeys(SPLITS, TextSource(Path(__file__))))
        >>> len(corpus.settings()["texts"])
        3
    """

    sources: Mapping[Split, TextSource]
    tokens: Tokens = "whitespace"
    min_count: int = 1
    max_words: int | None = None
    n_tokens: Mapping[Split, int] | None = None
    n_words: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return all that the numbers depend on, the content of the files included, as plain types.

        Raises:
            OSError: If a file cannot be read.
        """
        return {
            "what": "corpus",
            "version": _VERSION,
            "texts": [[fingerprint(self.sources[split].path), self.sources[split].member] for split in SPLITS],
            "tokens": self.tokens,
            "min_count": self.min_count,
            "max_words": self.max_words,
            "n_tokens": None if self.n_tokens is None else [self.n_tokens[split] for split in SPLITS],
            "n_words": self.n_words,
        }

    def write(self, folder: Path) -> None:
        """Number the words of the three texts and write the numbers and the vocabulary.

        Args:
            folder: An empty folder.

        Raises:
            OSError: If a file cannot be read or written.
            TextFormatError: If a file does not hold what it should.
        """
        train, words = _number_freely(read_words(self.sources["train"], self.tokens))
        self._check_length("train", len(train))
        vocabulary = self._vocabulary(dict(zip(words, np.bincount(train).tolist(), strict=True)))
        train = np.array(vocabulary.encode(words), np.int32)[train]
        np.save(folder / "train.npy", train)
        for split in SPLITS[1:]:
            pieces = read_words(self.sources[split], self.tokens)
            text = _joined([np.array(vocabulary.encode(words), np.int32) for words in pieces])
            self._check_length(split, len(text))
            np.save(folder / f"{split}.npy", text)
        # Counted anew: what is not in the vocabulary is now <unk>.
        counts = np.bincount(train, minlength=len(vocabulary)).tolist()
        Vocabulary(vocabulary.words, counts, UNKNOWN).save(folder / _VOCABULARY)

    def _vocabulary(self, counts: Mapping[str, int]) -> Vocabulary:
        vocabulary = Vocabulary.build(
            counts,
            specials=(UNKNOWN, END_OF_LINE),
            min_count=self.min_count,
            max_size=self.max_words,
            unknown=UNKNOWN,
        )
        if self.n_words is not None and len(vocabulary) != self.n_words:
            raise self._not_published("train", len(vocabulary), "words in its vocabulary", self.n_words)
        return vocabulary

    def _check_length(self, split: Split, found: int) -> None:
        if not found:
            raise TextFormatError(f"{self.sources[split]} is empty: the {split} text needs at least one line")
        if self.n_tokens is not None and found != self.n_tokens[split]:
            raise self._not_published(split, found, "tokens", self.n_tokens[split])

    def _not_published(self, split: Split, found: int, what: str, expected: int) -> TextFormatError:
        return TextFormatError(
            f"{self.sources[split]} is not the published {split} text: found {found:,} {what}, expected {expected:,};"
            " put the published file in its place"
        )


def read_corpus(folder: Path) -> tuple[dict[Split, TokenArray], Vocabulary]:
    r"""Open what :meth:`Corpus.write` wrote.

    Args:
        folder: Where it was written.

    Returns:
        The texts as memory maps that can only be read, and the vocabulary.

    Raises:
        OSError: If a file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "text").write_text("to be or not to be\n")
        ...     Corpus(dict.fromkeys(SPLITS, TextSource(Path(folder, "text")))).write(Path(folder))
        ...     texts, vocabulary = read_corpus(Path(folder))
        >>> [vocabulary.words[number] for number in texts["test"]]
        ['to', 'be', 'or', 'not', 'to', 'be', '<eos>']
    """
    texts: dict[Split, TokenArray] = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in SPLITS}
    return texts, Vocabulary.load(folder / _VOCABULARY)


def _number_freely(pieces: Iterable[list[str]]) -> tuple[TokenArray, list[str]]:
    """Number words in the order in which they first occur; return the numbers ``(N,)`` and the words."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    text = _joined([np.fromiter(map(index.__getitem__, words), np.int32, len(words)) for words in pieces])
    return text, list(index)


def _joined(pieces: list[TokenArray]) -> TokenArray:
    return np.concatenate([np.zeros(0, np.int32), *pieces])

"""Words: splitting texts into them, and vocabularies."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from lightning_advdrop._extras import needed

UNKNOWN, PADDING, END = "<unk>", "<pad>", "<eos>"
"""Special words: for words outside the vocabulary, for padding, and for the end of a document or line."""

_find_words = re.compile(r"\w+").findall
# For ASCII text, twice as fast as the regular expression: all other characters become blanks.
_BLANKS = "".join(chr(code) if re.match(r"\w", chr(code)) else " " for code in range(128))
_words_and_signs = re.compile(rf"{UNKNOWN}|{END}|\w+(?:['\u2019]\w+)*|[^\w\s]").findall


def split_at_punctuation(text: str) -> list[str]:
    """Split text into words: runs of letters, digits and underscores, in upper and lower case as they are.

    All other characters, such as punctuation and markup, separate words and are dropped. torchtext 0.6.0 accepts this
    function in ``get_tokenizer`` and ``Field(tokenize=...)``.

    Example:
        >>> split_at_punctuation("It isn't bad... at all!<br />")
        ['It', 'isn', 't', 'bad', 'at', 'all', 'br']
    """
    return text.translate(_BLANKS).split() if text.isascii() else _find_words(text)


Tokenizer = Literal["punctuation", "blanks"]
"""Name of a way to split documents."""
TOKENIZERS: Mapping[Tokenizer, Callable[[str], list[str]]] = {"punctuation": split_at_punctuation, "blanks": str.split}
"""Ways to split documents; at blanks are split those that are published in words."""


def find_tokenizer(tokenizer: Tokenizer) -> Callable[[str], list[str]]:
    """Return the function of a name, which splits a document into words; ``ValueError`` for an unknown name.

    Example:
        >>> find_tokenizer("blanks")("It isn't bad...")
        ['It', "isn't", 'bad...']
    """
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"tokenizer must be one of {', '.join(map(repr, TOKENIZERS))}, got {tokenizer!r}")
    return TOKENIZERS[tokenizer]


Tokens = Literal["whitespace", "word"]
"""Name of a way to split a running text."""
TEXT_TOKENIZERS: Mapping[Tokens, Callable[[str], list[str]]] = {"whitespace": str.split, "word": _words_and_signs}
"""Ways to split a running text; words hold apostrophes, and other signs are words of their own."""


class Vocabulary:
    """Words and their indices.

    Args:
        words: The words in the order of their indices, each once.
        counts: Occurrences of each word in the training data, at least 0.
        unknown: The word that replaces all others, one of ``words``; ``None`` if every word must be known.

    Raises:
        ValueError: If a word occurs twice, ``counts`` has another length, or ``unknown`` is none of the words.

    Example:
        >>> vocabulary = Vocabulary.build(Counter("to be or not to be".split()), specials=["<unk>"], unknown="<unk>")
        >>> vocabulary.words
        ['<unk>', 'be', 'to', 'not', 'or']
        >>> vocabulary.encode(["to", "err"])
        [2, 0]
    """

    def __init__(self, words: Sequence[str], counts: Sequence[int], unknown: str | None = None) -> None:
        self.words = list(words)
        self.counts = [int(count) for count in counts]
        self.unknown = unknown
        self.index: Mapping[str, int] = {word: number for number, word in enumerate(self.words)}
        if len(self.index) != len(self.words):
            twice, _ = Counter(self.words).most_common(1)[0]
            raise ValueError(f"words must differ, got {twice!r} more than once.")
        if len(self.counts) != len(self.words):
            raise ValueError(f"counts must have one number for each of {len(self.words)} words, got {len(counts)}.")
        if unknown is not None and unknown not in self.index:
            raise ValueError(f"unknown must be one of the words or None, got {unknown!r}.")

    @classmethod
    def build(
        cls,
        counts: Mapping[str, int],
        *,
        specials: Sequence[str] = (),
        min_count: int = 1,
        max_size: int | None = None,
        unknown: str | None = None,
    ) -> Vocabulary:
        """Build a vocabulary of the most frequent words, ties in alphabetical order.

        Args:
            counts: Occurrences of each word.
            specials: Words that come first, whatever their counts.
            min_count: Fewest occurrences of a word, at least 1.
            max_size: Most words, not counting ``specials``; ``None`` for no limit.
            unknown: The word that replaces all others; ``None`` if every word must be known.

        Raises:
            ValueError: If ``min_count`` or ``max_size`` is below 1, or ``unknown`` is none of the words.
            MissingExtraError: If torchtext is not installed, which the extra ``text`` brings.
        """
        for name, value in (("min_count", min_count), ("max_size", max_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        with needed("Building a vocabulary"):
            from torchtext.vocab import Vocab
        words = Vocab(Counter(counts), max_size=max_size, min_freq=min_count, specials=list(specials)).itos
        return cls(words, [counts.get(word, 0) for word in words], unknown)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the indices of words; raise ``ValueError`` for an unlisted one if there is no ``unknown``."""
        if self.unknown is not None:
            index, unknown = self.index, self.index[self.unknown]
            return [index.get(word, unknown) for word in words]
        try:
            return [self.index[word] for word in words]
        except KeyError as error:
            raise ValueError(f"words must be in the vocabulary, got {error.args[0]!r}, which is not.") from None

    def check_same(self, words: Sequence[str], where: str) -> None:
        """Check that another vocabulary, that of ``where``, has the same words at the same indices.

        Raises:
            ValueError: If they differ; it names the first difference.
        """
        if list(words) == self.words:
            return
        pairs = enumerate(zip(self.words, words, strict=False))
        differences = (
            f"word {number} is {other!r} there and {own!r} here" for number, (own, other) in pairs if own != other
        )
        raise ValueError(
            f"{where} has another vocabulary than the data:"
            f" {next(differences, f'{len(words)} words there and {len(self)} here')}; use the data and settings that"
            " it was trained on."
        )

    def save(self, path: Path) -> None:
        """Write the vocabulary to a JSON file."""
        content = {"words": self.words, "counts": self.counts, "unknown": self.unknown}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Load a saved vocabulary."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

"""What the text data modules share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torchtext.vocab import Vocab


class Vocabulary:
    """Words and their numbers.

    Args:
        words: The words in the order of their numbers, each once.
        counts: How often each word occurs in the training data, at least 0.
        unknown: The word that stands for all others, one of ``words``; ``None`` if every word must be known.

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
        """Choose words by how often they occur: the most frequent first, equals in alphabetical order.

        Args:
            counts: How often each word occurs.
            specials: Words that come first, however often they occur.
            min_count: The fewest occurrences of a word, at least 1.
            max_size: The most words, not counting ``specials``; ``None`` for no limit.
            unknown: See `Vocabulary`.

        Raises:
            ValueError: If ``min_count`` or ``max_size`` is below 1, or ``unknown`` is none of the words.
        """
        for name, value in (("min_count", min_count), ("max_size", max_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        words = Vocab(Counter(counts), max_size=max_size, min_freq=min_count, specials=list(specials)).itos
        return cls(words, [counts.get(word, 0) for word in words], unknown)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the numbers of words.

        Raises:
            ValueError: If a word is not in the vocabulary and there is no ``unknown``.
        """
        if self.unknown is not None:
            index, unknown = self.index, self.index[self.unknown]
            return [index.get(word, unknown) for word in words]
        try:
            return [self.index[word] for word in words]
        except KeyError as error:
            raise ValueError(f"words must be in the vocabulary, got {error.args[0]!r}, which is not.") from None

    def check_same(self, words: Sequence[str], where: str) -> None:
        """Check that another vocabulary has the same words with the same numbers.

        Args:
            words: The other one's words.
            where: What they belong to, for the message.

        Raises:
            ValueError: If they differ; it names the first difference.
        """
        for number, (own, other) in enumerate(zip(self.words, words, strict=False)):
            if own != other:
                raise ValueError(
                    f"{where} has another vocabulary than the data: word {number} is {other!r} there and {own!r} here; "
                    "use the data and settings that it was trained on."
                )
        if len(words) != len(self):
            raise ValueError(
                f"{where} has another vocabulary than the data: {len(words)} words there and {len(self)} here; use the "
                "data and settings that it was trained on."
            )

    def save(self, path: Path) -> None:
        """Write the vocabulary to a JSON file."""
        content = {"words": self.words, "counts": self.counts, "unknown": self.unknown}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

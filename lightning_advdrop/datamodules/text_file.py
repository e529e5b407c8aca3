"""Any three text files, to train a language model on."""

from pathlib import Path
from typing import Any

from lightning_advdrop.datamodules.checks import check_integer
from lightning_advdrop.datamodules.corpus import SPLITS, CorpusDataModule, Split
from lightning_advdrop.datamodules.text_files import TextSource
from lightning_advdrop.datamodules.tokenizing import TEXT_TOKENIZERS, Tokens


class TextFileDataModule(CorpusDataModule):
    """Three text files of one's own, to train a language model on.

    The files are plain text in UTF-8. The vocabulary is that of the training file: ``<unk>``, ``<eos>``, then the most
    frequent words first. Words of the other two that are not in it become ``<unk>``, and ``<eos>`` stands at the end of
    each line. Batches are tokens ``(T, B)`` and their successors ``(T, B)``, as
    :class:`~lightning_advdrop.datamodules.corpus.CorpusDataModule` describes them.

    Args:
        train: File to train on.
        validation: File for validation.
        test: File for test and prediction.
        tokens: ``"whitespace"``: words are what stands between white space; ``"word"``: letters and digits (with
            apostrophes inside) and single other characters are words, too. Case is kept.
        min_count: The fewest times that a word of the vocabulary occurs in the training file, at least 1.
        max_words: The most words of the vocabulary beside ``<unk>`` and ``<eos>``; ``None`` for no limit.
        **arguments: ``batch_size``, ``length`` and all others of ``CorpusDataModule``.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> data = TextFileDataModule("train.txt", "validation.txt", "test.txt", tokens="word", min_count=3)
        >>> data.sources()
        Traceback (most recent call last):
        ...
        FileNotFoundError: Text files are missing: looked for train.txt, validation.txt, test.txt
    """

    def __init__(
        self,
        train: str | Path,
        validation: str | Path,
        test: str | Path,
        tokens: Tokens = "whitespace",
        min_count: int = 1,
        max_words: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(max_words=max_words, **arguments)
        check_integer("min_count", min_count, low=1)
        if tokens not in TEXT_TOKENIZERS:
            raise ValueError(f"tokens must be 'whitespace' or 'word', got {tokens!r}")
        self.tokens = tokens
        self.min_count = min_count
        paths = (Path(path).expanduser() for path in (train, validation, test))
        self.paths: dict[Split, Path] = dict(zip(SPLITS, paths, strict=True))

    def sources(self) -> dict[Split, TextSource]:
        """Find the three files.

        Raises:
            FileNotFoundError: If one is missing.
        """
        if missing := [str(path) for path in self.paths.values() if not path.is_file()]:
            raise FileNotFoundError(f"Text files are missing: looked for {', '.join(missing)}")
        return {split: TextSource(path) for split, path in self.paths.items()}

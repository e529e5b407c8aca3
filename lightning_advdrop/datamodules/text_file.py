"""Any three text files, to train a language model on."""

import os
from pathlib import Path
from typing import Any

from lightning_advdrop.datamodules.checks import check_integers
from lightning_advdrop.datamodules.corpus import SPLITS, CorpusDataModule, Split
from lightning_advdrop.datamodules.text import TEXT_TOKENIZERS, Tokens


class TextFileDataModule(CorpusDataModule):
    """Three text files of your own, to train a language model on.

    The files are plain text in UTF-8. The vocabulary is that of the training file: ``<unk>``, ``<eos>``, then the words
    by frequency. Other words of the other two files are replaced by ``<unk>``; ``<eos>`` ends each line. A batch is
    tokens ``(T, B)`` and targets ``(T, B)``, as in :class:`~lightning_advdrop.datamodules.corpus.CorpusDataModule`.

    Args:
        train: File to train on.
        validation: File for validation.
        test: File for test and prediction.
        tokens: ``"whitespace"``: words are separated by white space; ``"word"``: words are runs of letters and digits,
            with apostrophes inside, and every other character. Case is kept.
        min_count: Fewest occurrences of a word of the vocabulary in the training file, at least 1.
        max_words: Most words of the vocabulary beside ``<unk>`` and ``<eos>``, at least 1; ``None`` for no limit.
        **arguments: ``batch_size``, ``length`` and all others of ``CorpusDataModule``, which also raises their errors.

    Example:
        >>> data = TextFileDataModule("train.txt", "validation.txt", "test.txt", tokens="word", min_count=3)
        >>> data.sources()
        Traceback (most recent call last):
        ...
        FileNotFoundError: Text files are missing: looked for train.txt, validation.txt, test.txt; correct the paths
    """

    title = "Text"

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
        check_integers(1, min_count=min_count)
        if tokens not in TEXT_TOKENIZERS:
            raise ValueError(f"tokens must be 'whitespace' or 'word', got {tokens!r}")
        self.tokens = tokens
        self.min_count = min_count
        for name, path in zip(SPLITS, (train, validation, test), strict=True):
            if not isinstance(path, (str, os.PathLike)):
                raise TypeError(f"{name} must be a path, got {path!r}")
        paths = (Path(path).expanduser() for path in (train, validation, test))
        self.paths: dict[Split, Path] = dict(zip(SPLITS, paths, strict=True))

    def find_files(self) -> list[Path]:
        """Return the paths of the three files."""
        return list(self.paths.values())

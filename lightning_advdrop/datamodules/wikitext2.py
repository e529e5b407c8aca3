"""WikiText-2."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from lightning_advdrop.datamodules.corpus_files import Split
from lightning_advdrop.datamodules.published_corpus import PublishedCorpusDataModule
from lightning_advdrop.datamodules.text_files import TextSource

WIKITEXT2_MIRRORS = ("https://wikitext.smerity.com/",)
"""Base addresses of the published archive, in the order in which they are tried."""

_ARCHIVE = "wikitext-2-v1.zip"
_MEMBERS: Mapping[Split, str] = {
    "train": "wiki.train.tokens",
    "validation": "wiki.valid.tokens",
    "test": "wiki.test.tokens",
}


class WikiText2DataModule(PublishedCorpusDataModule):
    """WikiText-2: good articles of Wikipedia with their case, numbers and punctuation, and 33,278 words.

    The data are those of Merity, Xiong, Bradbury & Socher (2017, "Pointer sentinel mixture models", arXiv 1609.07843):
    2,088,628 words for training, 217,646 for validation and 245,569 for test, with one ``<eos>`` for each line; words
    that occur less than three times are ``<unk>``. Batches are tokens ``(T, B)`` and their successors ``(T, B)``, see
    :class:`~lightning_advdrop.datamodules.corpus.CorpusDataModule`.

    The file is ``<root>/wikitext-2/wikitext-2-v1.zip``, read without unpacking it. The three files that it holds,
    ``wiki.train.tokens``, ``wiki.valid.tokens`` and ``wiki.test.tokens``, are taken in its place where they lie in
    ``<root>/wikitext-2``.

    Args:
        root: Folder that holds ``wikitext-2``; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``, else
            ``data``.
        batch_size: Columns of a training batch, at least 1.
        eval_batch_size: Columns of a validation batch, at least 1.
        test_batch_size: Columns of a batch of test and prediction, at least 1.
        length: Steps of a batch, on average in training: at least 1.
        random_lengths: Whether the lengths of training batches are drawn.
        train_tokens: Train on this many words from the beginning, at least 2; ``None`` for all.
        max_words: Keep only this many of the most frequent words beside ``<unk>`` and ``<eos>``, at least 1; ``None``
            for the published vocabulary.
        download: Whether to fetch the file if it is missing.
        seed: Of the lengths, from 0 to ``2**32 - 1``.
        cache: Folder of prepared data; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.
        mirrors: Base addresses to fetch from, tried in this order.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> WikiText2DataModule("sets", train_tokens=100_000).folder.as_posix()
        'sets/wikitext-2'
    """

    title = "WikiText-2"
    folder_name = "wikitext-2"
    n_tokens: ClassVar[Mapping[Split, int] | None] = {"train": 2_088_628, "validation": 217_646, "test": 245_569}
    n_words: ClassVar[int | None] = 33_278
    checksums: ClassVar[Mapping[str, str]] = {_ARCHIVE: "542ccefacc6c27f945fb54453812b3cd"}

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
        mirrors: Sequence[str] = WIKITEXT2_MIRRORS,
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
        unpacked = {split: TextSource(self.folder / name) for split, name in _MEMBERS.items()}
        if all(source.path.is_file() for source in unpacked.values()):
            return unpacked
        return {split: TextSource(self.folder / _ARCHIVE, f"wikitext-2/{name}") for split, name in _MEMBERS.items()}

"""WikiText-2."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from lightning_advdrop.datamodules.corpus import CorpusDataModule, Split
from lightning_advdrop.datamodules.published import PublishedDataModule
from lightning_advdrop.datamodules.text_files import TextSource

WIKITEXT2_MIRRORS = ("https://wikitext.smerity.com/",)
"""Base addresses of the published archive, in the order in which they are tried."""

_ARCHIVE = "wikitext-2-v1.zip"
_MEMBERS: Mapping[Split, str] = {
    "train": "wiki.train.tokens",
    "validation": "wiki.valid.tokens",
    "test": "wiki.test.tokens",
}


class WikiText2DataModule(PublishedDataModule, CorpusDataModule):
    """WikiText-2: good articles of Wikipedia with their case, numbers and punctuation, and 33,278 words.

    The data are those of Merity, Xiong, Bradbury & Socher (2017, "Pointer sentinel mixture models", arXiv 1609.07843):
    2,088,628 words for training, 217,646 for validation and 245,569 for test, with one ``<eos>`` for each line; words
    that occur less than three times are ``<unk>``. Batches are tokens ``(T, B)`` and their successors ``(T, B)``.

    The file is ``<root>/wikitext-2/wikitext-2-v1.zip``, read without unpacking it. The three files that it holds,
    ``wiki.train.tokens``, ``wiki.valid.tokens`` and ``wiki.test.tokens``, are taken in its place where they lie in
    ``<root>/wikitext-2``.

    The arguments are ``root``, ``download`` and ``mirrors``, and those of
    :class:`~lightning_advdrop.datamodules.corpus.CorpusDataModule`, where ``max_words=None`` is the published
    vocabulary.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> WikiText2DataModule("sets", train_tokens=100_000).folder.as_posix()
        'sets/wikitext-2'
    """

    title = "WikiText-2"
    folder_name = "wikitext-2"
    published_mirrors = WIKITEXT2_MIRRORS
    n_tokens: ClassVar[Mapping[Split, int] | None] = {"train": 2_088_628, "validation": 217_646, "test": 245_569}
    n_words: ClassVar[int | None] = 33_278
    checksums: ClassVar[Mapping[str, str]] = {_ARCHIVE: "542ccefacc6c27f945fb54453812b3cd"}

    def sources(self) -> dict[Split, TextSource]:
        """Find the three texts.

        Raises:
            FileNotFoundError: If the archive is missing and one of the texts is.
        """
        if self._unpacked():
            return {split: TextSource(self.folder / name) for split, name in _MEMBERS.items()}
        self.require_files()
        return {split: TextSource(self.folder / _ARCHIVE, f"wikitext-2/{name}") for split, name in _MEMBERS.items()}

    def missing_files(self) -> list[Path]:
        """Return the archive if it is missing and one of the texts is."""
        return [] if self._unpacked() else super().missing_files()

    def _unpacked(self) -> bool:
        return all((self.folder / name).is_file() for name in _MEMBERS.values())

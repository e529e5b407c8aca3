"""WikiText-2."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from lightning_advdrop.datamodules.corpus import CorpusDataModule, Split
from lightning_advdrop.datamodules.published import PublishedDataModule
from lightning_advdrop.datamodules.text_files import TextSource

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
    that occur less than three times are ``<unk>``. A batch is tokens ``(T, B)`` and targets ``(T, B)``.

    The texts are read from ``<root>/wikitext-2/wikitext-2-v1.zip`` without extracting it, or from the three files
    ``wiki.train.tokens``, ``wiki.valid.tokens`` and ``wiki.test.tokens`` in the same folder, if all of them exist.

    Arguments and their errors are those of `PublishedDataModule` and `CorpusDataModule`; ``max_words=None`` is the
    published vocabulary.

    Example:
        >>> WikiText2DataModule("sets", train_tokens=100_000).folder.as_posix()
        'sets/wikitext-2'
    """

    title = "WikiText-2"
    folder_name = "wikitext-2"
    published_mirrors = ("https://wikitext.smerity.com/",)
    n_tokens: ClassVar[Mapping[Split, int] | None] = {"train": 2_088_628, "validation": 217_646, "test": 245_569}
    n_words: ClassVar[int | None] = 33_278
    checksums: ClassVar[Mapping[str, str]] = {_ARCHIVE: "542ccefacc6c27f945fb54453812b3cd"}

    def find_files(self) -> list[Path]:
        """Return the paths of the three extracted texts, if all of them exist, or of the archive."""
        unpacked = [self.folder / name for name in _MEMBERS.values()]
        return unpacked if all(path.is_file() for path in unpacked) else super().find_files()

    def sources(self) -> dict[Split, TextSource]:
        """Find the three texts, in the archive or extracted."""
        if len(files := self.require_files()) > 1:
            return super().sources()
        return {split: TextSource(files[0], f"wikitext-2/{name}") for split, name in _MEMBERS.items()}

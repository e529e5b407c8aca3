"""Elec: reviews of electronics, positive or negative."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightning_advdrop.datamodules.archives import unpack
from lightning_advdrop.datamodules.downloads import download
from lightning_advdrop.datamodules.labelled_documents import DocumentDataModule
from lightning_advdrop.datamodules.published import PublishedDataModule
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.datamodules.text_files import (
    Document,
    DocumentError,
    Part,
    check_label,
    check_words,
    checksum,
    read_lines,
)
from lightning_advdrop.datamodules.tokenizing import split_at_blanks

ELEC_MIRRORS = ("https://riejohnson.com/software/", "http://riejohnson.com/software/")
"""Base addresses of the published archive, in the order in which they are tried."""

_ARCHIVE = "elec2.tar.gz"
_REMEDY = "put the published files in their place"
_LABELLED: Mapping[str, Part] = {"elec-25k-train": "train", "elec-test": "test"}


class ElecDataModule(PublishedDataModule, DocumentDataModule):
    """Reviews of electronics, positive or negative, and more without a label.

    The data are those of Johnson & Zhang (2015, arXiv 1412.1058), the experiment that of Miyato, Dai & Goodfellow
    (2017, arXiv 1605.07725). Of the labelled reviews for training 15 % in each class are for validation: a fixed
    choice of ours. The reviews are published in words already, which blanks separate.

    The files are ``elec-25k-train.txt.tok`` with one review a line, ``elec-25k-train.cat`` with its label 1 or 2, their
    siblings of the name ``elec-test``, and those that ``unlabelled`` names; all of them in ``<root>/elec``.

    Args:
        root: Folder that holds ``elec``; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``, else
            ``data``.
        unlabelled: Pattern of the names of files with unlabelled reviews. What all of them hold is used.
        md5: Checksum of the archive. ``None`` for none: no published one is known, and what was fetched is held against
            the checksum that gzip keeps only.
        **arguments: ``download``, ``mirrors``, ``task`` and all others of `DocumentDataModule`. With ``download`` the
            archive ``elec2.tar.gz`` is fetched and unpacked if a file is missing.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> elec = ElecDataModule(train_size=1000)
        >>> elec.class_names, elec.num_classes
        (('neg', 'pos'), 2)
    """

    title = "Elec"
    folder_name = "elec"
    published_mirrors = ELEC_MIRRORS
    class_names = ("neg", "pos")
    tokenizer = "blanks"

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        unlabelled: str = "elec-*unlab*.txt.tok",
        md5: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(root, **arguments)
        if not unlabelled or Path(unlabelled).name != unlabelled:
            raise ValueError(f"unlabelled must be a pattern of file names without a folder, got {unlabelled!r}")
        self.unlabelled = unlabelled
        self.md5 = md5

    def fetch(self) -> None:
        """Download the archive, if it is missing, and unpack all files.

        Raises:
            DownloadError: If no mirror delivers the archive.
            DocumentError: If the archive is damaged or hostile.
        """
        archive = self.folder / _ARCHIVE
        if not archive.is_file():
            download(archive, self.mirrors, self.md5)
        unpack(archive, self.folder, ["elec-25k-train.*", "elec-test.*", self.unlabelled])

    def missing_files(self) -> list[Path]:
        """Return the files that are missing; the pattern of the unlabelled ones, if there is none of those."""
        missing = [path for path in self._labelled_files() if not path.is_file()]
        return missing if self._unlabelled_files() else [*missing, self.folder / self.unlabelled]

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksums of all files.

        Raises:
            FileNotFoundError: If files are missing.
        """
        self.require_files()
        return {path.name: checksum(path) for path in [*self._labelled_files(), *self._unlabelled_files()]}

    def read(self) -> Iterator[Document]:
        """Read all reviews.

        Raises:
            FileNotFoundError: If files are missing.
            DocumentError: If texts and labels of a file are not as many, a label is not 1 or 2, or a review has no
                words or is not valid UTF-8.
        """
        self.require_files()
        for name, part in _LABELLED.items():
            yield from self._read_labelled(name, part)
        for number, (path, line, text) in enumerate(_all_lines(self._unlabelled_files())):
            yield Document("unlabelled", UNLABELLED, number, check_words(split_at_blanks(text), path, line))

    def _read_labelled(self, name: str, part: Part) -> Iterator[Document]:
        texts, labels = self.folder / f"{name}.txt.tok", self.folder / f"{name}.cat"
        for text, label in zip_longest(read_lines(texts), read_lines(labels)):
            if text is None or label is None:
                shorter, longer = (texts, labels) if text is None else (labels, texts)
                (line, _) = label if text is None else text
                raise DocumentError(
                    f"{shorter} ends before line {line}: expected as many lines as in {longer}, a label for each"
                    f" review; {_REMEDY}"
                )
            line, words = text[0], check_words(split_at_blanks(text[1]), texts, text[0])
            yield Document(part, check_label(label[1], 1, 2, labels, line), line, words)

    def _labelled_files(self) -> list[Path]:
        return [self.folder / f"{name}{suffix}" for name in _LABELLED for suffix in (".txt.tok", ".cat")]

    def _unlabelled_files(self) -> list[Path]:
        return sorted(self.folder.glob(self.unlabelled))


def _all_lines(paths: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
    for path in paths:
        for line, text in read_lines(path):
            yield path, line, text

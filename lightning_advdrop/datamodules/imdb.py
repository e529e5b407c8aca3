"""IMDB: film reviews, positive or negative."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning_advdrop.datamodules.archives import read_tar_gz
from lightning_advdrop.datamodules.labelled_documents import DocumentDataModule
from lightning_advdrop.datamodules.published import PublishedDataModule
from lightning_advdrop.datamodules.text import find_tokenizer
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.datamodules.text_files import Document, DocumentError, Part, check_words, decode

_ARCHIVE = "aclImdb_v1.tar.gz"
_UNPACKED = "aclImdb"
_FOLDERS: Mapping[str, tuple[Part, int]] = {
    "train/neg": ("train", 0),
    "train/pos": ("train", 1),
    "train/unsup": ("unlabelled", UNLABELLED),
    "test/neg": ("test", 0),
    "test/pos": ("test", 1),
}


class IMDBDataModule(PublishedDataModule, DocumentDataModule):
    """Film reviews, positive or negative, and twice as many without a label.

    The data are from Maas, Daly, Pham, Huang, Ng & Potts (2011, "Learning word vectors for sentiment analysis"),
    the experiment is that of Miyato, Dai & Goodfellow (2017, arXiv 1605.07725). There are 25,000 labelled reviews for
    training, 25,000 for test and 50,000 unlabelled ones. Of those for training, 3,750 (15 %), half of them positive,
    are for validation: a fixed choice of ours. Reviews are split at punctuation, their case is kept.

    The reviews are read from ``<root>/imdb/aclImdb_v1.tar.gz`` in one pass, without extracting it, or from the
    extracted folder ``<root>/imdb/aclImdb``, if that exists. All 100,000 must be there (``n_documents``).

    Arguments and their errors are those of `PublishedDataModule` and `DocumentDataModule`.

    Example:
        >>> imdb = IMDBDataModule(max_tokens=200)
        >>> imdb.class_names, imdb.num_classes
        (('neg', 'pos'), 2)
    """

    title = "IMDB"
    folder_name = "imdb"
    published_mirrors = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
    alternative = f" (or the folder {_UNPACKED} that it unpacks to)"
    class_names = ("neg", "pos")
    n_documents: ClassVar[Mapping[Part, Sequence[int]] | None] = {
        "train": (12_500, 12_500),
        "test": (12_500, 12_500),
        "unlabelled": (50_000,),
    }
    checksums: ClassVar[Mapping[str, str]] = {_ARCHIVE: "7c2ac02c03563afcf9b574c7e56c153a"}

    def find_files(self) -> list[Path]:
        """Return the path of the archive; nothing if the extracted folder is there."""
        return [] if self._unpacked.is_dir() else [self._archive]

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksum of the archive, or one of the names, sizes and times of the extracted files."""
        if not self._unpacked.is_dir():
            return super().fingerprint()
        digest = hashlib.sha256()
        for path in (path for folder in _FOLDERS for path in self._reviews(folder)):
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return {_UNPACKED: digest.hexdigest()}

    def read(self) -> Iterator[Document]:
        """Read all reviews.

        Raises:
            DocumentError: If the archive is truncated, damaged or hostile, or lacks a folder of reviews, or if a review
                has no words or is not valid UTF-8.
        """
        self.require_files()
        split = find_tokenizer(self.tokenizer)
        for folder, path, content in self._read_unpacked() if self._unpacked.is_dir() else self._read_archive():
            words = check_words(split(decode(content, path)), path, line=1)
            yield Document(*_FOLDERS[folder], f"{folder}/{path.name}", words)

    def _read_unpacked(self) -> Iterator[tuple[str, Path, bytes]]:
        """Read the folder, path and content of each review from the extracted folder."""
        for folder in _FOLDERS:
            yield from ((folder, path, path.read_bytes()) for path in self._reviews(folder))

    def _read_archive(self) -> Iterator[tuple[str, Path, bytes]]:
        """Read the folder, path and content of each review from the archive."""
        found = set()
        for path, content in read_tar_gz(self._archive):
            folder = "/".join(path.parts[1:-1])
            if folder in _FOLDERS and path.parts[0] == _UNPACKED and path.suffix == ".txt":
                found.add(folder)
                yield folder, self._archive / path, content
        if missing := [f"{_UNPACKED}/{folder}" for folder in _FOLDERS if folder not in found]:
            raise DocumentError(
                f"{self._archive} lacks reviews: found none in {', '.join(missing)}, expected some; delete the file and"
                " download it again"
            )

    def _reviews(self, folder: str) -> list[Path]:
        paths = sorted((self._unpacked / folder).glob("*.txt"))
        if not paths:
            raise FileNotFoundError(
                f"IMDB reviews are missing: found no .txt file in {self._unpacked / folder}; unpack {_ARCHIVE} again,"
                f" or remove {self._unpacked} to have the archive itself read"
            )
        return paths

    @property
    def _archive(self) -> Path:
        return self.folder / _ARCHIVE

    @property
    def _unpacked(self) -> Path:
        return self.folder / _UNPACKED

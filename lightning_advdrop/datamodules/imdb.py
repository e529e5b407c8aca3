"""IMDB: film reviews, positive or negative."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning_advdrop.datamodules.archives import read_tar_gz
from lightning_advdrop.datamodules.document_files import (
    Document,
    DocumentError,
    Part,
    check_words,
    checksum,
    decode,
    names_checksum,
)
from lightning_advdrop.datamodules.documents import DocumentDataModule
from lightning_advdrop.datamodules.downloads import check_mirrors, download
from lightning_advdrop.datamodules.roots import DATA_ROOT_VARIABLE
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.datamodules.tokenizing import split_at_punctuation

IMDB_MIRRORS = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
"""Base addresses of the published archive, in the order in which they are tried."""

_ARCHIVE = "aclImdb_v1.tar.gz"
_UNPACKED = "aclImdb"
_FOLDERS: Mapping[str, tuple[Part, int]] = {
    "train/neg": ("train", 0),
    "train/pos": ("train", 1),
    "train/unsup": ("unlabelled", UNLABELLED),
    "test/neg": ("test", 0),
    "test/pos": ("test", 1),
}
_REMEDY = "delete the file and download it again"


class IMDBDataModule(DocumentDataModule):
    """Film reviews, positive or negative, and twice as many without a label.

    The data are those of Maas, Daly, Pham, Huang, Ng & Potts (2011, "Learning word vectors for sentiment analysis"),
    the experiment that of Miyato, Dai & Goodfellow (2017, arXiv 1605.07725). There are 25,000 labelled reviews for
    training, 25,000 for test and 50,000 unlabelled ones. Of those for training, 3,750 (15 %), half of them positive,
    are for validation: a fixed choice of ours. Reviews are split at punctuation, their case is kept.

    The files are ``<root>/imdb/aclImdb_v1.tar.gz``, or the folder ``<root>/imdb/aclImdb`` that it unpacks to, which is
    taken where both are there. The archive is read as it is, in one pass.

    Args:
        root: Folder that holds ``imdb``; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``, else
            ``data``.
        download: Whether to fetch the archive if it is missing.
        mirrors: Base addresses to fetch from, tried in this order.
        **arguments: ``task``, ``train_size`` and all others of `DocumentDataModule`.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> imdb = IMDBDataModule(max_tokens=200)
        >>> imdb.class_names, imdb.num_classes
        (('neg', 'pos'), 2)
    """

    folder_name = "imdb"
    class_names = ("neg", "pos")
    checksums: ClassVar[Mapping[str, str]] = {_ARCHIVE: "7c2ac02c03563afcf9b574c7e56c153a"}
    """Published md5, checked when the archive is downloaded: a local file may have been packed anew."""

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        download: bool = False,
        mirrors: Sequence[str] = IMDB_MIRRORS,
        **arguments: Any,
    ) -> None:
        super().__init__(root, **arguments)
        self.download = download
        self.mirrors = check_mirrors(mirrors)

    def prepare_data(self) -> None:
        """Fetch the archive if it is missing and ``download`` allows it; encode the reviews, unless that has been done.

        Raises:
            FileNotFoundError: If archive and folder are missing and ``download`` is false, or a folder of reviews is.
            DownloadError: If no mirror delivers the archive.
            DocumentError: If a file does not hold what it should; it names file and line.
        """
        if self.download and not self._unpacked.is_dir() and not self._archive.is_file():
            download(self._archive, self.mirrors, self.checksums[_ARCHIVE])
        super().prepare_data()

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksum of the archive, or one of the names, sizes and times of the unpacked reviews.

        Raises:
            FileNotFoundError: If archive and folder are missing, or a folder of reviews is.
        """
        if self._unpacked.is_dir():
            return {_UNPACKED: names_checksum(path for folder in _FOLDERS for path in self._reviews(folder))}
        self._require_archive()
        return {_ARCHIVE: checksum(self._archive)}

    def read(self) -> Iterator[Document]:
        """Read all reviews.

        Raises:
            FileNotFoundError: If archive and folder are missing, or a folder of reviews is.
            DocumentError: If the archive is truncated or damaged, lacks a folder of reviews or holds a path that leaves
                its folder, or if a review has no words or is not valid UTF-8.
        """
        if self._unpacked.is_dir():
            yield from self._read_unpacked()
        else:
            self._require_archive()
            yield from self._read_archive()

    def _read_unpacked(self) -> Iterator[Document]:
        for folder in _FOLDERS:
            for path in self._reviews(folder):
                yield _review(folder, path.name, path.read_bytes(), path)

    def _read_archive(self) -> Iterator[Document]:
        found = set()
        for path, content in read_tar_gz(self._archive):
            folder = "/".join(path.parts[1:-1])
            if folder in _FOLDERS and path.parts[0] == _UNPACKED and path.suffix == ".txt":
                found.add(folder)
                yield _review(folder, path.name, content, self._archive / path)
        if missing := [f"{_UNPACKED}/{folder}" for folder in _FOLDERS if folder not in found]:
            raise DocumentError(
                f"{self._archive} lacks reviews: found none in {', '.join(missing)}, expected some; {_REMEDY}"
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

    def _require_archive(self) -> None:
        if not self._archive.is_file():
            raise FileNotFoundError(
                f"IMDB is missing: looked for {self._archive} and {self._unpacked}; put one of them there, name another"
                f" folder with root or the environment variable {DATA_ROOT_VARIABLE}, or set download=True"
            )


def _review(folder: str, name: str, content: bytes, path: Path) -> Document:
    part, label = _FOLDERS[folder]
    words = check_words(split_at_punctuation(decode(content, path)), path, line=1)
    return Document(part, label, f"{folder}/{name}", words)

"""Elec: reviews of electronics, positive or negative."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

from lightning_advdrop.datamodules.archives import unpack
from lightning_advdrop.datamodules.downloads import download
from lightning_advdrop.datamodules.labelled_documents import DocumentDataModule
from lightning_advdrop.datamodules.published import PublishedDataModule
from lightning_advdrop.datamodules.text import Tokenizer, find_tokenizer
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.datamodules.text_files import Document, DocumentError, Part, check_label, check_words, read_lines

_ARCHIVE = "elec2.tar.gz"
_LABELLED = ("elec-25k-train", "elec-test")


class ElecDataModule(PublishedDataModule, DocumentDataModule):
    """Reviews of electronics, positive or negative, and more without a label.

    The data are those of Johnson & Zhang (2015, arXiv 1412.1058), the experiment that of Miyato, Dai & Goodfellow
    (2017, arXiv 1605.07725). Of the labelled reviews for training 15 % in each class are for validation: a fixed
    choice of ours. The reviews are published in words already, which blanks separate.

    The files are ``elec-25k-train.txt.tok`` with one review a line, ``elec-25k-train.cat`` with its label 1 or 2, their
    siblings of the name ``elec-test``, and those that ``unlabelled`` names; all of them in ``<root>/elec``.

    Args:
        unlabelled: Pattern of the names of files with unlabelled reviews; all of them are read.
        md5: Checksum of the archive; ``None`` for none, since no published one is known: only the checksum inside the
            gzip file is verified then, and ``mirrors`` must start with ``https://``.
        **arguments: ``download``, ``mirrors``, ``task`` and all others of `DocumentDataModule`. With ``download`` the
            archive ``elec2.tar.gz`` is downloaded and unpacked if a file is missing.

    Raises:
        ValueError: If ``unlabelled`` is no pattern of file names, or as `DocumentDataModule`.

    Example:
        >>> elec = ElecDataModule(train_size=1000)
        >>> elec.class_names, elec.num_classes
        (('neg', 'pos'), 2)
    """

    title = "Elec"
    folder_name = "elec"
    published_mirrors = ("https://riejohnson.com/software/",)
    class_names = ("neg", "pos")
    tokenizer: ClassVar[Tokenizer] = "blanks"

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
        """Download the archive, if it is missing, and unpack all files; `DocumentError` if it is damaged or hostile."""
        archive = self.folder / _ARCHIVE
        if fetched := not archive.is_file():
            download(archive, self.mirrors, self.md5)
        try:
            unpack(archive, self.folder, ["elec-25k-train.*", "elec-test.*", self.unlabelled])
        except DocumentError:
            if fetched:  # or it would be there the next time
                archive.unlink(missing_ok=True)
            raise

    def find_files(self) -> list[Path]:
        """Return the paths of labelled reviews and their labels, then of unlabelled reviews, or their pattern."""
        labelled = [self.folder / f"{name}{suffix}" for name in _LABELLED for suffix in (".txt.tok", ".cat")]
        return labelled + (sorted(self.folder.glob(self.unlabelled)) or [self.folder / self.unlabelled])

    def read(self) -> Iterator[Document]:
        """Read all reviews.

        Raises:
            DocumentError: If the numbers of texts and labels differ, a label is not 1 or 2, or a review has no words or
                is not valid UTF-8.
        """
        train, train_labels, test, test_labels, *unlabelled = self.require_files()
        split = find_tokenizer(self.tokenizer)
        yield from _read_labelled("train", train, train_labels, split)
        yield from _read_labelled("test", test, test_labels, split)
        lines = ((path, line, text) for path in unlabelled for line, text in read_lines(path))
        for number, (path, line, text) in enumerate(lines):
            yield Document("unlabelled", UNLABELLED, number, check_words(split(text), path, line))


def _read_labelled(part: Part, texts: Path, labels: Path, split: Callable[[str], list[str]]) -> Iterator[Document]:
    for text, label in zip_longest(read_lines(texts), read_lines(labels)):
        line, _ = text or label
        if text is None or label is None:
            shorter, longer = (texts, labels) if text is None else (labels, texts)
            raise DocumentError(
                f"{shorter} ends before line {line}: expected as many lines as in {longer}, a label for each"
                " review; put the published files in their place"
            )
        words = check_words(split(text[1]), texts, line)
        yield Document(part, check_label(label[1], 1, 2, labels, line), line, words)

"""RCV1: news stories by topic."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_advdrop.datamodules.labelled_documents import DocumentDataModule
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
from lightning_advdrop.datamodules.tokenizing import split_at_punctuation

_FILES: Mapping[str, Part] = {"train.csv": "train", "test.csv": "test", "unlab.csv": "unlabelled"}
_COLUMNS = 2
# Ten times as many topics as the collection has: a number above is a mistake, and would make a network of its size.
_HIGHEST_TOPIC = 999
# Characters; the standard library's own limit is shorter than a long story.
_LONGEST_TEXT = 2**31 - 1


class RCV1DataModule(DocumentDataModule):
    """News stories by topic, and more without a label.

    The data are those of Lewis, Yang, Rose & Li (2004, "RCV1: A new benchmark collection for text categorization
    research"), the experiment that of Miyato, Dai & Goodfellow (2017, arXiv 1605.07725). The text needs an agreement
    with its owner, so that it cannot be downloaded. Of the stories for training 15 % in each topic are for validation:
    a fixed choice of ours. Stories are split at punctuation, their case is kept.

    The files are ``train.csv``, ``test.csv`` and ``unlab.csv`` in ``<root>/rcv1``, without a header. A row has two
    columns, the number of the topic and the text. Topics count from 0 to at most 999, and those of the training
    file are all there are. What the first column of ``unlab.csv`` holds is not read.

    The arguments are those of `DocumentDataModule`.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If an argument is out of its range.

    Example:
        >>> RCV1DataModule("datasets").folder.as_posix()
        'datasets/rcv1'
    """

    title = "RCV1"
    folder_name = "rcv1"

    def missing_files(self) -> list[Path]:
        """Return the files that are missing."""
        return [path for path in (self.folder / name for name in _FILES) if not path.is_file()]

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksums of all files.

        Raises:
            FileNotFoundError: If files are missing.
        """
        self.require_files()
        return {name: checksum(self.folder / name) for name in _FILES}

    def read(self) -> Iterator[Document]:
        """Read all stories.

        Raises:
            FileNotFoundError: If files are missing.
            DocumentError: If a row does not have two columns, a topic is no number or not one of the training file, or
                a story has no words or is not valid UTF-8.
        """
        self.require_files()
        highest, allowed = 0, _HIGHEST_TOPIC
        for name, part in _FILES.items():  # training first: it tells the topics
            path = self.folder / name
            for line, topic, text in _read_rows(path):
                label = UNLABELLED if part == "unlabelled" else check_label(topic, 0, allowed, path, line)
                highest = max(highest, label)
                yield Document(part, label, line, check_words(split_at_punctuation(text), path, line))
            if highest == 0:
                raise DocumentError(f"{path}: found stories of the topic 0 alone, expected at least two topics")
            allowed = highest


def _read_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """The number of the line in which a row begins, and its two columns."""
    rows = csv.reader((f"{line}\n" for _, line in read_lines(path)), strict=True)
    first, limit = 1, csv.field_size_limit(_LONGEST_TEXT)
    try:
        for row in rows:
            if len(row) != _COLUMNS:
                raise DocumentError(
                    f"{path}, line {first}: found {len(row)} columns, expected 2: topic and text, the text in"
                    " double quotes if it holds a comma"
                )
            yield first, row[0], row[1]
            first = rows.line_num + 1
    except csv.Error as error:
        # A double quote that is never closed is found far behind the row that it belongs to.
        raise DocumentError(
            f"{path}, line {first}: found what is no row of CSV ({error} in line {rows.line_num}), expected topic and"
            " text; check its double quotes"
        ) from error
    finally:
        csv.field_size_limit(limit)

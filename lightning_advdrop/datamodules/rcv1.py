"""RCV1: news stories by topic."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from lightning_advdrop.datamodules.labelled_documents import DocumentDataModule
from lightning_advdrop.datamodules.text import find_tokenizer
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from lightning_advdrop.datamodules.text_files import Document, DocumentError, Part, check_label, check_words, read_lines

_FILES: Mapping[str, Part] = {"train.csv": "train", "test.csv": "test", "unlab.csv": "unlabelled"}
# Ten times the topics of the collection: a higher number is a mistake, and would size the network.
_HIGHEST_TOPIC = 999
# Characters; the default limit of the standard library is shorter than a long story.
_LONGEST_TEXT = 2**31 - 1


class RCV1DataModule(DocumentDataModule):
    """News stories by topic, and more without a label.

    The data are those of Lewis, Yang, Rose & Li (2004, "RCV1: A new benchmark collection for text categorization
    research"), the experiment that of Miyato, Dai & Goodfellow (2017, arXiv 1605.07725). The text needs an agreement
    with its owner, so that it cannot be downloaded. Of the stories for training 15 % in each topic are for validation:
    a fixed choice of ours. Stories are split at punctuation (``tokenizer``), their case is kept.

    The files are ``train.csv``, ``test.csv`` and ``unlab.csv`` in ``<root>/rcv1``, without a header. A row has two
    columns, the number of the topic and the text. Topics count from 0 to at most 999; the training file contains all of
    them. The first column of ``unlab.csv`` is ignored.

    Arguments and their errors are those of `DocumentDataModule`.

    Example:
        >>> RCV1DataModule("datasets").folder.as_posix()
        'datasets/rcv1'
    """

    title = "RCV1"
    folder_name = "rcv1"

    def find_files(self) -> list[Path]:
        """Return the paths of the three files."""
        return [self.folder / name for name in _FILES]

    def read(self) -> Iterator[Document]:
        """Read all stories.

        Raises:
            DocumentError: If a row does not have two columns, a topic is no number or above those of the training file,
                or a story has no words or is not valid UTF-8.
        """
        split, highest, allowed = find_tokenizer(self.tokenizer), 0, _HIGHEST_TOPIC
        # Training comes first: it tells the topics.
        for path, part in zip(self.require_files(), _FILES.values(), strict=True):
            for line, topic, text in _read_rows(path):
                label = UNLABELLED if part == "unlabelled" else check_label(topic, 0, allowed, path, line)
                highest = max(highest, label)
                yield Document(part, label, line, check_words(split(text), path, line))
            if highest == 0:
                raise DocumentError(f"{path}: found stories of the topic 0 alone, expected at least two topics")
            allowed = highest


def _read_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the line number of the start of each row, and its two columns."""
    rows = csv.reader((f"{line}\n" for _, line in read_lines(path)), strict=True)
    first, limit = 1, csv.field_size_limit(_LONGEST_TEXT)
    try:
        for row in rows:
            if len(row) != 2:
                raise DocumentError(
                    f"{path}, line {first}: found {len(row)} columns, expected 2: topic and text, the text in"
                    " double quotes if it holds a comma"
                )
            yield first, row[0], row[1]
            first = rows.line_num + 1
    except csv.Error as error:
        # An unclosed double quote is noticed far after its row.
        raise DocumentError(
            f"{path}, line {first}: found what is no row of CSV ({error} in line {rows.line_num}), expected topic and"
            " text; check its double quotes"
        ) from error
    finally:
        csv.field_size_limit(limit)

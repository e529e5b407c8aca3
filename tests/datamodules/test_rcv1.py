from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from lightning_advdrop.datamodules import UNLABELLED, RCV1DataModule
from tests.helpers.document_files import check_refused, make_texts, spoil_line, write_rcv1
from tests.helpers.messages import refused

TEXTS = make_texts(classes=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rcv1(tmp_path, TEXTS)


def test_stories_are_those_of_the_files(folder: Path) -> None:
    found = [(part, label, words) for part, label, _, words in RCV1DataModule(folder.parent).read()]
    assert found == [(part, label, re.findall(r"\w+", text)) for part, texts in TEXTS.items() for label, text in texts]


def test_topics_are_counted(folder: Path) -> None:
    module = RCV1DataModule(folder.parent)
    with refused("RCV1DataModule", "prepare_data()", error=RuntimeError):
        module.num_classes  # noqa: B018
    module.prepare_data()
    assert module.num_classes == 4
    assert (module.class_names, module.tokenizer) == (None, "punctuation")


def test_texts_of_several_lines_with_commas_and_quotes(folder: Path) -> None:
    (folder / "unlab.csv").write_text('"","A ""story"", of\ntwo lines"\r\n7,another\n')
    documents = [document for document in RCV1DataModule(folder.parent).read() if document.part == "unlabelled"]
    assert [words for *_, words in documents] == [["A", "story", "of", "two", "lines"], ["another"]]
    assert [(label, line) for _, label, line, _ in documents] == [(UNLABELLED, 1), (UNLABELLED, 3)]


@pytest.mark.parametrize(
    ("name", "line", "content", "parts"),
    [
        ("train.csv", 3, "1", ("1 columns", 2, "double quotes")),
        ("unlab.csv", 2, "one story", ("1 columns", 2, "double quotes")),
        ("test.csv", 2, "1,a,b", ("3 columns", 2, "double quotes")),
        ("test.csv", 2, "", ("0 columns", 2, "double quotes")),
        ("train.csv", 1, "label,text", ("'label'", 0, 999)),
        ("train.csv", 1, "-1,text", ("'-1'", 0, 999)),
        ("train.csv", 1, "1.0,text", ("'1.0'", 0, 999)),
        ("train.csv", 1, f"{10**20},text", (f"'{10**20}'", 0, 999)),
        ("test.csv", 4, "4,text", ("'4'", 0, 3)),
        ("test.csv", 4, "3,...", ("without a word",)),
        ("unlab.csv", 4, "0,", ("without a word",)),
        ("unlab.csv", 4, "0,caf\udce9", ("0xe9", "position 6", "UTF-8")),
        ("train.csv", 2, '0,"text" more', ("CSV", "line 2", "double quotes")),
        ("unlab.csv", 3, '0,"text', ("CSV", "line 4", "double quotes")),
    ],
)
def test_a_bad_row(folder: Path, name: str, line: int, content: str, parts: tuple[object, ...]) -> None:
    spoil_line(folder / name, line, content.encode(errors="surrogateescape"))
    check_refused(RCV1DataModule(folder.parent), folder / name, f"line {line}", *parts)


def test_one_topic_is_nothing_to_tell_apart(folder: Path) -> None:
    (folder / "train.csv").write_text("0,one story\n0,another\n")
    check_refused(RCV1DataModule(folder.parent), folder / "train.csv", "topic 0", "two")


def test_a_text_may_be_longer_than_the_limit_of_the_standard_library(folder: Path) -> None:
    limit = csv.field_size_limit()
    (folder / "unlab.csv").write_text("0," + "word " * limit + "\n")
    *_, last = RCV1DataModule(folder.parent).read()
    assert len(list(last.words)) == limit
    assert csv.field_size_limit() == limit

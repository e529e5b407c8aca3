from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from lightning_advdrop.datamodules import UNLABELLED, DocumentError, RCV1DataModule
from tests.helpers.document_files import make_texts, write_rcv1

TEXTS = make_texts(classes=4)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LIGHTNING_ADVDROP_DATA", raising=False)
    monkeypatch.setenv("LIGHTNING_ADVDROP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rcv1(tmp_path, TEXTS)


def read_failure(folder: Path) -> str:
    """What is said about bad data, of which nothing is kept."""
    with pytest.raises(DocumentError) as refused:
        RCV1DataModule(folder.parent).prepare_data()
    assert not [path for path in (folder.parent / "cache").iterdir() if path.is_dir()]
    return str(refused.value)


def test_stories_are_those_of_the_files(folder: Path) -> None:
    found = [(part, label, words) for part, label, _, words in RCV1DataModule(folder.parent).read()]
    assert found == [(part, label, re.findall(r"\w+", text)) for part, texts in TEXTS.items() for label, text in texts]


def test_topics_are_counted(folder: Path) -> None:
    module = RCV1DataModule(folder.parent)
    with pytest.raises(RuntimeError, match=r"^The texts of RCV1DataModule are not encoded"):
        module.num_classes  # noqa: B018
    module.prepare_data()
    assert module.num_classes == 4
    assert (module.class_names, module.tokenizer) == (None, "punctuation")


def test_texts_of_several_lines_with_commas_and_quotes(folder: Path) -> None:
    (folder / "unlab.csv").write_text('"","A ""story"", of\ntwo lines"\r\n7,another\n')
    documents = [document for document in RCV1DataModule(folder.parent).read() if document.part == "unlabelled"]
    assert [words for *_, words in documents] == [["A", "story", "of", "two", "lines"], ["another"]]
    assert [(label, line) for _, label, line, _ in documents] == [(UNLABELLED, 1), (UNLABELLED, 3)]


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "unlab.csv"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    message = (
        f"RCV1 files are missing: looked for {folder / name}; put them there, or name another folder with root or the"
        " environment variable LIGHTNING_ADVDROP_DATA"
    )
    for step in ("prepare_data", "fingerprint", "read"):
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
            list(getattr(RCV1DataModule(folder.parent), step)())


COLUMNS = "expected 2: topic and text, the text in double quotes if it holds a comma"
NO_ROW = "expected topic and text; check its double quotes"


@pytest.mark.parametrize(
    ("name", "line", "content", "message"),
    [
        ("train.csv", 3, "1", f"found 1 columns, {COLUMNS}"),
        ("unlab.csv", 2, "one story", f"found 1 columns, {COLUMNS}"),
        ("test.csv", 2, "1,a,b", f"found 3 columns, {COLUMNS}"),
        ("test.csv", 2, "", f"found 0 columns, {COLUMNS}"),
        ("train.csv", 1, "label,text", "found the label 'label', expected a whole number from 0 to 999"),
        ("train.csv", 1, "-1,text", "found the label '-1', expected a whole number from 0 to 999"),
        ("train.csv", 1, "1.0,text", "found the label '1.0', expected a whole number from 0 to 999"),
        ("train.csv", 1, f"{10**20},text", f"found the label '{10**20}', expected a whole number from 0 to 999"),
        ("test.csv", 4, "4,text", "found the label '4', expected a whole number from 0 to 3"),
        ("test.csv", 4, "3,...", "found a document without a word, expected at least one; remove it"),
        ("unlab.csv", 4, "0,", "found a document without a word, expected at least one; remove it"),
        ("unlab.csv", 4, "0,caf\udce9", "found byte 0xe9 at position 6 of the line, expected UTF-8; convert the file"),
        ("train.csv", 2, '0,"text" more', f"found what is no row of CSV (',' expected after '\"' in line 2), {NO_ROW}"),
        ("unlab.csv", 3, '0,"text', f"found what is no row of CSV (',' expected after '\"' in line 4), {NO_ROW}"),
    ],
)
def test_a_bad_row(folder: Path, name: str, line: int, content: str, message: str) -> None:
    lines = (folder / name).read_bytes().splitlines()
    lines[line - 1] = content.encode(errors="surrogateescape")
    (folder / name).write_bytes(b"\n".join([*lines, b""]))
    assert read_failure(folder) == f"{folder / name}, line {line}: {message}"


def test_one_topic_is_nothing_to_tell_apart(folder: Path) -> None:
    (folder / "train.csv").write_text("0,one story\n0,another\n")
    expected = f"{folder / 'train.csv'}: found stories of the topic 0 alone, expected at least two topics"
    assert read_failure(folder) == expected


def test_a_text_may_be_longer_than_the_limit_of_the_standard_library(folder: Path) -> None:
    limit = csv.field_size_limit()
    (folder / "unlab.csv").write_text("0," + "word " * limit + "\n")
    *_, last = RCV1DataModule(folder.parent).read()
    assert len(list(last.words)) == limit
    assert csv.field_size_limit() == limit

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_advdrop.datamodules import Document, DocumentError, ElecDataModule, IMDBDataModule
from lightning_advdrop.datamodules.downloads import DownloadError
from tests.helpers.document_files import (
    as_documents,
    elec_files,
    encoded_content,
    make_texts,
    refusal,
    spoil_line,
    tar_gz,
    write_elec,
    write_imdb,
)
from tests.helpers.idx_files import md5
from tests.helpers.servers import mirror

DOCUMENTS = as_documents(make_texts())
ARCHIVE = tar_gz({f"elec/{name}": content for name, content in elec_files(DOCUMENTS).items()} | {"elec/README": b"?"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_elec(tmp_path, DOCUMENTS)


def content(documents: Iterator[Document]) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(part, label, tuple(words)) for part, label, _, words in documents]


def test_reviews_are_those_of_the_files(folder: Path) -> None:
    assert content(ElecDataModule(folder.parent).read()) == content(iter(sorted(DOCUMENTS, key=order)))


def order(document: Document) -> int:
    return ("train", "test", "unlabelled").index(document.part)


def test_imdb_in_this_format_gives_the_same_documents(tmp_path: Path) -> None:
    write_imdb(tmp_path, make_texts(classes=2))
    write_elec(tmp_path, IMDBDataModule(tmp_path).read())
    stores = []
    for kind in (IMDBDataModule, ElecDataModule):
        (module := kind(tmp_path)).prepare_data()
        stores.append(encoded_content(module.corpus))
    assert stores[0] == stores[1]


def test_all_files_of_unlabelled_reviews_are_read(folder: Path) -> None:
    (folder / "elec-25k-unlab01.txt.tok").write_text("two more\nof them\n")
    for pattern, count in (("elec-*unlab*.txt.tok", 14), ("elec-25k-unlab*.txt.tok", 2)):
        documents = content(ElecDataModule(folder.parent, unlabelled=pattern).read())
        assert sum(part == "unlabelled" for part, _, _ in documents) == count


def test_lines_end_at_line_feeds_only(folder: Path) -> None:
    (folder / "elec-test.txt.tok").write_bytes("one\u2028line\x0c\r\nlast".encode())
    (folder / "elec-test.cat").write_bytes(b"2\r\n 1")
    documents = [document for document in ElecDataModule(folder.parent).read() if document.part == "test"]
    assert [(label, words) for _, label, _, words in documents] == [(1, ["one", "line"]), (0, ["last"])]


@pytest.mark.parametrize(
    ("name", "line", "content", "message"),
    [
        ("elec-test.cat", 3, b"3", "found the label '3', expected a whole number from 1 to 2"),
        ("elec-test.cat", 1, b"0", "found the label '0', expected a whole number from 1 to 2"),
        ("elec-25k-train.cat", 5, b"pos", "found the label 'pos', expected a whole number from 1 to 2"),
        ("elec-25k-train.cat", 5, b"", "found the label '', expected a whole number from 1 to 2"),
        ("elec-25k-train.cat", 5, b"-1", "found the label '-1', expected a whole number from 1 to 2"),
        (
            "elec-25k-train.cat",
            5,
            b"\xff",
            "found byte 0xff at position 1 of the line, expected UTF-8; convert the file",
        ),
        ("elec-test.txt.tok", 2, b"", "found a document without a word, expected at least one; remove it"),
        ("elec-200k-unlab.txt.tok", 4, b" \t", "found a document without a word, expected at least one; remove it"),
        (
            "elec-200k-unlab.txt.tok",
            12,
            b"a\xe9",
            "found byte 0xe9 at position 2 of the line, expected UTF-8; convert the file",
        ),
    ],
)
def test_a_bad_line(folder: Path, name: str, line: int, content: bytes, message: str) -> None:
    spoil_line(folder / name, line, content)
    assert refusal(ElecDataModule(folder.parent)) == f"{folder / name}, line {line}: {message}"


@pytest.mark.parametrize("shorter", ["txt.tok", "cat"])
def test_texts_and_labels_that_are_not_as_many(folder: Path, shorter: str) -> None:
    longer = "cat" if shorter == "txt.tok" else "txt.tok"
    short, long = (folder / f"elec-test.{suffix}" for suffix in (shorter, longer))
    short.write_bytes(b"".join(short.read_bytes().splitlines(keepends=True)[:4]))
    assert refusal(ElecDataModule(folder.parent)) == (
        f"{short} ends before line 5: expected as many lines as in {long}, a label for each review; put the published"
        " files in their place"
    )


def test_download_fetches_and_unpacks(tmp_path: Path) -> None:
    with mirror({}, "missing") as first, mirror({"elec2.tar.gz": ARCHIVE}) as second:
        for _ in range(2):
            module = ElecDataModule(tmp_path, download=True, mirrors=[first.address, second.address], md5=md5(ARCHIVE))
            module.prepare_data()
    assert first.requests == second.requests == ["elec2.tar.gz"]
    assert sorted(path.name for path in (tmp_path / "elec").iterdir()) == sorted([*elec_files([]), "elec2.tar.gz"])
    assert content(module.read()) == content(iter(sorted(DOCUMENTS, key=order)))


def test_a_checksum_that_is_named_is_checked(tmp_path: Path) -> None:
    with (
        mirror({"elec2.tar.gz": ARCHIVE}, "corrupted") as bad,
        pytest.raises(DownloadError, match=f"expected md5:{md5(ARCHIVE)} but got"),
    ):
        ElecDataModule(tmp_path, download=True, mirrors=[bad.address], md5=md5(ARCHIVE)).prepare_data()
    assert list((tmp_path / "elec").iterdir()) == []


def test_without_a_checksum_a_damaged_archive_is_found_when_it_is_unpacked(tmp_path: Path) -> None:
    with (
        mirror({"elec2.tar.gz": ARCHIVE}, "corrupted") as bad,
        pytest.raises(DocumentError, match=r"elec2\.tar\.gz is damaged: found an archive that cannot be unpacked"),
    ):
        ElecDataModule(tmp_path, download=True, mirrors=[bad.address]).prepare_data()
    with mirror({"elec2.tar.gz": ARCHIVE}, "truncated") as bad, pytest.raises(DownloadError, match="truncated"):
        ElecDataModule(tmp_path / "new", download=True, mirrors=[bad.address]).prepare_data()


def test_published_facts() -> None:
    module = ElecDataModule()
    assert (module.class_names, module.num_classes, module.tokenizer) == (("neg", "pos"), 2, "blanks")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unlabelled": ""}, "unlabelled must be a pattern of file names without a folder, got ''"),
        ({"unlabelled": "../*.tok"}, "unlabelled must be a pattern of file names without a folder, got '../*.tok'"),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ElecDataModule(**arguments)

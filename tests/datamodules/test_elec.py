from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_advdrop.datamodules import Document, DocumentError, ElecDataModule
from lightning_advdrop.datamodules.downloads import DownloadError
from tests.helpers.document_files import (
    SmallIMDB,
    as_documents,
    check_refused,
    elec_files,
    encoded_content,
    make_texts,
    spoil_line,
    tar_gz,
    write_elec,
    write_imdb,
)
from tests.helpers.idx_files import md5
from tests.helpers.messages import refused
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
    write_elec(tmp_path, SmallIMDB(tmp_path).read())
    stores = []
    for kind in (SmallIMDB, ElecDataModule):
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
    ("name", "line", "content", "parts"),
    [
        ("elec-test.cat", 3, b"3", ("'3'", 1, 2)),
        ("elec-test.cat", 1, b"0", ("'0'", 1, 2)),
        ("elec-25k-train.cat", 5, b"pos", ("'pos'", 1, 2)),
        ("elec-25k-train.cat", 5, b"", ("''", 1, 2)),
        ("elec-25k-train.cat", 5, b"-1", ("'-1'", 1, 2)),
        ("elec-25k-train.cat", 5, b"\xff", ("0xff", "position 1", "UTF-8")),
        ("elec-test.txt.tok", 2, b"", ("without a word",)),
        ("elec-200k-unlab.txt.tok", 4, b" \t", ("without a word",)),
        ("elec-200k-unlab.txt.tok", 12, b"a\xe9", ("0xe9", "position 2", "UTF-8")),
    ],
)
def test_a_bad_line(folder: Path, name: str, line: int, content: bytes, parts: tuple[object, ...]) -> None:
    spoil_line(folder / name, line, content)
    check_refused(ElecDataModule(folder.parent), folder / name, f"line {line}", *parts)


@pytest.mark.parametrize("shorter", ["txt.tok", "cat"])
def test_texts_and_labels_that_are_not_as_many(folder: Path, shorter: str) -> None:
    longer = "cat" if shorter == "txt.tok" else "txt.tok"
    short, long = (folder / f"elec-test.{suffix}" for suffix in (shorter, longer))
    short.write_bytes(b"".join(short.read_bytes().splitlines(keepends=True)[:4]))
    check_refused(ElecDataModule(folder.parent), short, "line 5", long)


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
        refused("elec2.tar.gz", bad.address, f"md5:{md5(ARCHIVE)}", error=DownloadError),
    ):
        ElecDataModule(tmp_path, download=True, mirrors=[bad.address], md5=md5(ARCHIVE)).prepare_data()
    assert list((tmp_path / "elec").iterdir()) == []


def test_without_a_checksum_a_damaged_archive_is_found_when_it_is_unpacked(tmp_path: Path) -> None:
    with (
        mirror({"elec2.tar.gz": ARCHIVE}, "corrupted") as bad,
        refused("elec2.tar.gz", "damaged", "unpacked", error=DocumentError),
    ):
        ElecDataModule(tmp_path, download=True, mirrors=[bad.address]).prepare_data()
    with (
        mirror({"elec2.tar.gz": ARCHIVE}, "truncated") as bad,
        refused("elec2.tar.gz", bad.address, "truncated", error=DownloadError),
    ):
        ElecDataModule(tmp_path / "new", download=True, mirrors=[bad.address]).prepare_data()


def test_published_facts() -> None:
    module = ElecDataModule()
    assert (module.class_names, module.num_classes, module.tokenizer) == (("neg", "pos"), 2, "blanks")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"unlabelled": ""}, ("unlabelled", "''")),
        ({"unlabelled": "../*.tok"}, ("unlabelled", "'../*.tok'")),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        ElecDataModule(**arguments)

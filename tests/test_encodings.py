"""Every reader of texts: a byte order mark is no part of the first word, and other encodings are refused."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_advdrop.cli.trained import _lines
from lightning_advdrop.datamodules import Vocabulary
from lightning_advdrop.datamodules.imdb import IMDBDataModule
from lightning_advdrop.datamodules.rcv1 import RCV1DataModule
from lightning_advdrop.datamodules.text_files import DocumentError, TextSource, read_lines, read_words
from lightning_advdrop.datamodules.vectors import load_vectors
from lightning_advdrop.report import load_run, read_history, read_masks
from tests.helpers.corpora import zipped
from tests.helpers.document_files import imdb_files, make_texts, tar_gz, write_rcv1
from tests.helpers.messages import refused

MARK = codecs.BOM_UTF8
REVIEW = "aclImdb/train/neg/0_2.txt"
METRICS = b"loss,epoch\n0.5,0\n"


def _vectors(folder: Path, content: bytes) -> object:
    (folder / "vectors").write_bytes(content)
    return load_vectors(folder / "vectors", Vocabulary(["first", "second"], [1, 1])).tolist()


def _words(folder: Path, content: bytes) -> object:
    (folder / "text").write_bytes(content)
    return list(read_words(TextSource(folder / "text")))


def _words_in_zip(folder: Path, content: bytes) -> object:
    (folder / "text.zip").write_bytes(zipped({"a/text": content}))
    return list(read_words(TextSource(folder / "text.zip", "a/text")))


def _lines_of_file(folder: Path, content: bytes) -> object:
    (folder / "elec").write_bytes(content)
    return list(read_lines(folder / "elec"))


def _topics(folder: Path, content: bytes) -> object:
    path = write_rcv1(folder, make_texts(classes=4)) / "train.csv"
    path.write_bytes(content + path.read_bytes())
    return [(found.label, list(found.words)) for found in RCV1DataModule(folder).read()]


def _reviews(folder: Path, content: bytes, *, packed: bool = False) -> object:
    (folder / "imdb").mkdir()
    files = imdb_files(make_texts()) | {REVIEW: content}
    if packed:
        (folder / "imdb" / "aclImdb_v1.tar.gz").write_bytes(tar_gz(files))
    else:
        for name, each in files.items():
            (folder / "imdb" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "imdb" / name).write_bytes(each)
    return [(found.key, list(found.words)) for found in IMDBDataModule(folder).read()]


def _history(folder: Path, content: bytes) -> object:
    (folder / "metrics.csv").write_bytes(content)
    return read_history(folder / "metrics.csv")


def _masks(folder: Path, content: bytes) -> object:
    (folder / "masks.csv").write_bytes(content)
    return {site: found.shares.tolist() for site, found in read_masks(folder / "masks.csv").items()}


def _config(folder: Path, content: bytes) -> object:
    (folder / "metrics.csv").write_bytes(METRICS)
    (folder / "config.yaml").write_bytes(content)
    return load_run(folder).seed


def _input(folder: Path, content: bytes) -> object:
    return list(_lines(io.TextIOWrapper(io.BytesIO(content))))


READERS: dict[str, tuple[Callable[[Path, bytes], object], bytes]] = {
    "vectors": (_vectors, b"first 1 2 3\nsecond 4 5 6\n"),
    "vectors with a header": (_vectors, b"2 3\nfirst 1 2 3\nsecond 4 5 6\n"),
    "packed vectors": (lambda path, raw: _vectors(path, gzip.compress(raw)), b"first 1 2 3\nsecond 4 5 6\n"),
    "running text": (_words, b"first second\n"),
    "running text in a zip": (_words_in_zip, b"first second\n"),
    "document a line": (_lines_of_file, b"first second\nthird\n"),
    "topics": (_topics, b"0,first second\n"),
    "reviews": (_reviews, b"first second"),
    "packed reviews": (lambda path, raw: _reviews(path, raw, packed=True), b"first second"),
    "metrics": (_history, METRICS),
    "masks": (_masks, b"epoch,site,unit,units,share\n0,lstm,0,1,0.25\n"),
    "config": (_config, b"seed_everything: 7\n"),
    "standard input": (_input, b"first second\nthird\n"),
}
each = pytest.mark.parametrize(("read", "content"), READERS.values(), ids=READERS)


@each
def test_a_byte_order_mark_is_skipped(read: Callable[[Path, bytes], object], content: bytes, tmp_path: Path) -> None:
    folders = [tmp_path / "plain", tmp_path / "marked"]
    for folder in folders:
        folder.mkdir()
    assert read(folders[1], MARK + content) == read(folders[0], content)


# Of the files of a run, which other programs write, the message names the file.
NAMED: dict[Callable[[Path, bytes], object], str] = {
    _history: "metrics.csv",
    _masks: "masks.csv",
    _config: "config.yaml",
}
# Python writes the mark of the other two itself.
MARKS = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}


@each
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_characters_are_refused(
    read: Callable[[Path, bytes], object], content: bytes, encoding: str, tmp_path: Path
) -> None:
    """Also without their byte order mark: ASCII text in UTF-16 is valid UTF-8, with a NUL after each character."""
    with refused(NAMED.get(read, "UTF-8")) as caught:
        read(tmp_path, content.decode().encode(encoding))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", ["vectors", "running text", "running text in a zip", "document a line", "reviews"])
def test_what_wide_characters_are_is_said(name: str, encoding: str, tmp_path: Path) -> None:
    read, content = READERS[name]
    mark = MARKS.get(encoding, b"")
    with refused(encoding[:6].upper(), "UTF-8", "convert", error=DocumentError):
        read(tmp_path, mark + content.decode().encode(encoding))


@pytest.mark.parametrize("name", ["vectors", "running text", "running text in a zip", "document a line", "reviews"])
def test_a_nul_byte_is_named_with_its_place(name: str, tmp_path: Path) -> None:
    read, content = READERS[name]
    with refused("line 1", "0x00", "position 6", "UTF-8", error=DocumentError):
        read(tmp_path, content.replace(b" ", b"\0", 1))

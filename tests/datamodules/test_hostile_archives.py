"""Archives that were made to do harm: nothing is written elsewhere, and memory is bounded."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pytest

from lightning_advdrop.datamodules import DocumentError, Vocabulary
from lightning_advdrop.datamodules.archives import read_tar_gz, unpack
from lightning_advdrop.datamodules.idx import IDXFormatError, read_idx
from lightning_advdrop.datamodules.text_files import TextSource, read_words
from lightning_advdrop.datamodules.vectors import load_vectors
from tests.datamodules.test_archives import FILES, check_refused, written
from tests.helpers.corpora import zipped
from tests.helpers.document_files import tar_gz
from tests.helpers.messages import refused

KINDS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE, b"?"]


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    """A contiguous file is one like any other."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("data/link.txt")
        member.type, member.linkname = kind, "/etc/hostname"
        archive.addfile(member)
    path = written(tmp_path, buffer.getvalue())
    if kind == tarfile.CONTTYPE:
        assert list(read_tar_gz(path)) == [(PurePosixPath("data/link.txt"), b"")]
        return
    check_refused(path, "'data/link.txt'", "link", "device")
    (folder := tmp_path / "out").mkdir()
    with refused(path, "'data/link.txt'", "link", "device", error=DocumentError):
        unpack(path, folder, ["*"])
    assert list(folder.iterdir()) == []


def raw_tar(
    name: str, size: int, kind: bytes = tarfile.REGTYPE, content: bytes = b"", more: Mapping[str, str] | None = None
) -> bytes:
    """An archive whose only member states any size."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.pax_headers = size, kind, more or {}
    header = member.tobuf(tarfile.PAX_FORMAT) if more else member.tobuf(tarfile.GNU_FORMAT)
    return gzip.compress(header + content + bytes(-len(content) % 512) + bytes(1024))


def test_a_link_that_files_are_written_through(tmp_path: Path) -> None:
    """A folder that is a link to another one, then a file in it."""
    (outside := tmp_path / "outside").mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("data")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("data/0.txt"))
    (folder := tmp_path / "out").mkdir()
    with refused("'data'", "link", error=DocumentError):
        unpack(written(tmp_path, buffer.getvalue()), folder, ["*"])
    assert list(outside.iterdir()) == list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["data/0.txt", "./data/0.txt", "data//0.txt"])
def test_two_files_of_one_name(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for each in ("data/0.txt", name):
            archive.addfile(tarfile.TarInfo(each))
    with refused("data.tar.gz", "'data/0.txt'", "more than once", error=DocumentError):
        list(read_tar_gz(written(tmp_path, buffer.getvalue())))


def test_two_files_of_one_name_in_different_folders(tmp_path: Path) -> None:
    path = written(tmp_path, tar_gz({"a/0.txt": b"one", "b/0.txt": b"two"}))
    assert len(list(read_tar_gz(path))) == 2
    (folder := tmp_path / "out").mkdir()
    with refused(path, "'0.txt'", "more than once", error=DocumentError):
        unpack(path, folder, ["*.txt"])
    assert list(folder.iterdir()) == []


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    """Its checksum stands behind the last file."""
    content = bytearray(tar_gz(FILES))
    content[-6] ^= 0xFF
    (folder := tmp_path / "out").mkdir()
    with refused("damaged", error=DocumentError):
        unpack(written(tmp_path, bytes(content)), folder, ["*.txt"])
    assert list(folder.iterdir()) == []


BOMBS = {
    "one file": lambda: tar_gz({"0.txt": bytes(1 << 27)}),
    "many files": lambda: tar_gz({f"{number}.txt": bytes(1 << 23) for number in range(16)}),
    "behind the end": lambda: gzip.compress(tarfile.TarInfo("0.txt").tobuf() + bytes(1 << 27), compresslevel=1),
    "a header": lambda: raw_tar("x", 1 << 27, tarfile.XHDTYPE, bytes(1 << 27)),
    "a long name": lambda: raw_tar("x", 1 << 27, tarfile.GNUTYPE_LONGNAME, b"a" * (1 << 27)),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=list(BOMBS))
def test_bombs(tmp_path: Path, make: Callable[[], bytes]) -> None:
    """128 MiB of zeros in 128 KiB; what is read is bounded by the size of the file."""
    path = written(tmp_path, make())
    assert path.stat().st_size < 1 << 21
    (folder := tmp_path / "out").mkdir()
    with refused(path, "unpacks to more than", "delete", error=DocumentError):
        unpack(path, folder, ["*"])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [1 << 33, 1 << 62, -512, -1])
def test_sizes_that_are_not_true(tmp_path: Path, size: int) -> None:
    """Neither memory for them is taken, nor is the archive read for ever."""
    member = tarfile.TarInfo("0.txt")
    member.size = size
    path = written(tmp_path, gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048)))
    tracemalloc.start()
    try:
        with refused(path, "damaged", error=DocumentError):
            list(read_tar_gz(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 24


def test_a_sparse_file(tmp_path: Path) -> None:
    """It states 8 GiB of zeros, and holds none of them."""
    headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 33)}
    headers["GNU.sparse.name"] = "0.txt"
    path = written(tmp_path, raw_tar("0.txt", 0, more=headers))
    check_refused(path, "'0.txt'", "sparse")


def test_a_small_archive_of_much_that_is_the_same(tmp_path: Path) -> None:
    content = b"the same words again " * 100_000
    assert list(read_tar_gz(written(tmp_path, tar_gz({"0.txt": content})))) == [(PurePosixPath("0.txt"), content)]


def test_a_bomb_of_an_idx_file(tmp_path: Path) -> None:
    (path := tmp_path / "labels.gz").write_bytes(gzip.compress(bytes(1 << 27)))
    with refused(path, "unpacks to more than", "delete", error=IDXFormatError):
        read_idx(path, 1)


def test_a_bomb_of_word_vectors(tmp_path: Path) -> None:
    (path := tmp_path / "vectors.gz").write_bytes(gzip.compress((b" " * 1023 + b"\n") * (1 << 17), 1))
    with refused(path, "unpacks to more than", "delete", error=DocumentError):
        load_vectors(path, Vocabulary(["other"], [1]))


def test_hostile_zip_archives(tmp_path: Path) -> None:
    """A bomb, a name that is there twice, one that is encrypted; a link is read as the text of its target."""
    source = TextSource(tmp_path / "texts.zip", "a/text")
    source.path.write_bytes(zipped({"a/text": (b" " * 1023 + b"\n") * (1 << 17)}))
    with refused(source.path, "unpacks to more than", error=DocumentError):
        list(read_words(source))
    with zipfile.ZipFile(source.path, "w") as archive:
        archive.writestr("a/text", "one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/text", "two")
    with refused(source.path, "a/text", "more than once", error=DocumentError):
        list(read_words(source))
    content = bytearray(zipped({"a/text": "one"}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    source.path.write_bytes(content)
    with refused(source.path, "a/text", "encrypted", error=DocumentError):
        list(read_words(source))
    link = zipfile.ZipInfo("a/text")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(source.path, "w") as archive:
        archive.writestr(link, "/etc/hostname")
    assert [word for piece in read_words(source) for word in piece] == ["/etc/hostname", "<eos>"]

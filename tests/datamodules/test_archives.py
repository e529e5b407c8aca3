from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from lightning_advdrop.datamodules import DocumentError
from lightning_advdrop.datamodules.archives import read_tar_gz, unpack
from tests.helpers.document_files import tar_gz
from tests.helpers.messages import refused

FILES = {f"data/{number}.txt": (f"text {number} " * 500).encode() for number in range(30)}


def written(folder: Path, content: bytes) -> Path:
    path = folder / "data.tar.gz"
    path.write_bytes(content)
    return path


def read_whole_files(path: Path) -> None:
    for name, content in read_tar_gz(path):
        assert FILES[str(name)] == content


def check_refused(path: Path, *parts: object) -> None:
    """What is said; what was yielded before came out whole."""
    with refused(path, *parts, error=DocumentError):
        read_whole_files(path)


def test_files_come_in_their_order(tmp_path: Path) -> None:
    path = written(tmp_path, tar_gz(FILES))
    assert list(read_tar_gz(path)) == [(PurePosixPath(name), content) for name, content in FILES.items()]
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_archive(tmp_path: Path) -> None:
    with refused(tmp_path / "data.tar.gz", error=FileNotFoundError):
        list(read_tar_gz(tmp_path / "data.tar.gz"))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_archive(tmp_path: Path, share: float) -> None:
    content = tar_gz(FILES)
    size = int(len(content) * share)
    path = written(tmp_path, content[:size])
    check_refused(path, "truncated", size, "gzip", "delete")


@pytest.mark.parametrize("missing", range(1, 9))
def test_an_archive_that_lacks_its_last_bytes(tmp_path: Path, missing: int) -> None:
    check_refused(written(tmp_path, tar_gz(FILES)[:-missing]), "truncated")


def test_a_damaged_archive(tmp_path: Path) -> None:
    content = bytearray(tar_gz(FILES))
    content[-6] ^= 0xFF  # of the checksum
    check_refused(written(tmp_path, bytes(content)), "damaged", "unpacked", "CRC")


@pytest.mark.parametrize("content", [b"<html>", gzip.compress(b"no archive" * 100)], ids=["no gzip", "no tar"])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    check_refused(written(tmp_path, content), "damaged", "unpacked")


@pytest.mark.parametrize("name", ["../0.txt", "data/../../0.txt", "/data/0.txt"])
def test_paths_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, tar_gz({**FILES, name: b"out"}))
    parts = (repr(name), "out of its folder", "delete")
    check_refused(path, *parts)
    with refused(path, *parts, error=DocumentError):
        unpack(path, tmp_path, ["0.txt"])


def test_folders_are_passed_over(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("data")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    assert list(read_tar_gz(written(tmp_path, buffer.getvalue()))) == []


def test_some_files_are_unpacked(tmp_path: Path) -> None:
    path = written(tmp_path, tar_gz({**FILES, "data/deep/notes.md": b"notes"}))
    (folder := tmp_path / "out").mkdir()
    unpack(path, folder, ["1?.txt", "*.md"])
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert found == {"notes.md": b"notes", **{f"{n}.txt": FILES[f"data/{n}.txt"] for n in range(10, 20)}}

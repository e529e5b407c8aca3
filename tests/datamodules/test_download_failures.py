"""Downloads that fail: one sentence says why, nothing half-written is left, and the next attempt works."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pooch  # type: ignore[import-untyped]
import pytest

from lightning_advdrop.datamodules import DocumentError, ElecDataModule
from lightning_advdrop.datamodules.cache import cached
from lightning_advdrop.datamodules.downloads import DownloadError, download
from tests.datamodules.test_elec import ARCHIVE
from tests.helpers.document_files import elec_files
from tests.helpers.idx_files import md5
from tests.helpers.messages import refused
from tests.helpers.servers import Behaviour, mirror

ROOT = Path(__file__).parents[2]
NAME = "labels.gz"
CONTENT = bytes(range(256)) * 4000
FILES = {NAME: CONTENT}


def fetch(folder: Path, *mirrors: str, **arguments: Any) -> Path:
    return download(folder / NAME, mirrors, md5(CONTENT), **arguments)


@pytest.mark.parametrize(
    ("behaviour", "parts"),
    [
        ("missing", (404, "Not Found")),
        ("failing", (500, "Server Error")),
        ("page", (f"md5:{md5(CONTENT)}",)),
        ("corrupted", (f"md5:{md5(CONTENT)}",)),
        ("truncated", ("truncated",)),
        ("hanging up", ("without response",)),
        ("circular", (30, "redirects")),
        ("slow", ("stopped answering", "timed out")),
    ],
)
def test_the_reason_is_named_and_the_next_attempt_works(
    tmp_path: Path, behaviour: Behaviour, parts: tuple[object, ...]
) -> None:
    with (
        mirror(FILES, behaviour) as bad,
        refused(NAME, bad.address, *parts, tmp_path / NAME, error=DownloadError) as caught,
    ):
        fetch(tmp_path, bad.address, timeout=0.5 if behaviour == "slow" else 30)
    assert len(str(caught.value).splitlines()) == 3  # what, why, what to do
    assert list(tmp_path.iterdir()) == []
    with mirror(FILES) as good:
        assert fetch(tmp_path, good.address).read_bytes() == CONTENT


def test_a_redirection_is_followed(tmp_path: Path) -> None:
    with mirror(FILES) as good, mirror(FILES, redirect=f"{good.address}{NAME}") as moved:
        assert download(tmp_path / NAME, [moved.address], None).read_bytes() == CONTENT


def test_what_anybody_could_have_changed_is_refused(tmp_path: Path) -> None:
    """Without a checksum: neither an address that is not encrypted, nor a redirection to one."""
    with refused("mirrors", "https://", "checksum", "'http://example.org/'"):
        download(tmp_path / NAME, ["https://example.org/", "http://example.org"], None)
    with (
        mirror(FILES, redirect=f"http://example.org/{NAME}") as moved,
        refused(moved.address, f"redirects to http://example.org/{NAME}", "checksum", error=DownloadError),
    ):
        download(tmp_path / NAME, [moved.address], None)
    with refused("mirrors", "https://", "checksum", "'http://example.org/'"):
        ElecDataModule(tmp_path, download=True, mirrors=["http://example.org"]).prepare_data()


@pytest.mark.parametrize("mirrors", [[None], [3], {"https://example.org/"}, None, b"https://example.org/"])
def test_what_is_no_list_of_addresses(tmp_path: Path, mirrors: Any) -> None:
    with refused("mirrors"):
        download(tmp_path / NAME, mirrors, None)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_cannot_be_written(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first chunk is written, the second one fails."""

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            if self.tell():
                raise OSError(number, os.strerror(number))
            return super().write(content)

    whole = pooch.HTTPDownloader.__call__

    def to_a_full_disk(self: Any, url: str, output_file: str, manager: Any) -> None:
        with Full(output_file, "wb") as file:
            whole(self, url, file, manager)

    with mirror(FILES) as good, mirror(FILES) as other:
        with monkeypatch.context() as patch:
            patch.setattr(pooch.HTTPDownloader, "__call__", to_a_full_disk)
            remedy = "name a folder" if number == errno.EIO else "make room"
            with refused(tmp_path / NAME, "cannot be written", os.strerror(number), remedy, error=OSError) as caught:
                fetch(tmp_path, good.address, other.address)
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == number
        assert other.requests == []  # another mirror would not help
        assert list(tmp_path.iterdir()) == []
        assert fetch(tmp_path, good.address).read_bytes() == CONTENT


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process must not write; root, who may write everywhere, is another user meanwhile."""
    with tempfile.TemporaryDirectory(prefix="read-only-") as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


@pytest.mark.parametrize("below", ["", "made/on the way"])
def test_a_folder_that_must_not_be_written(read_only_folder: Path, below: str) -> None:
    with (
        mirror(FILES) as good,
        refused(read_only_folder / below / NAME, "cannot be written", "Permission", error=PermissionError),
    ):
        fetch(read_only_folder / below, good.address)
    assert list(read_only_folder.iterdir()) == []


def test_prepared_data_that_must_not_be_written(read_only_folder: Path) -> None:
    for folder in (read_only_folder, read_only_folder / "made"):
        with refused(folder, "cannot be written", "Permission", error=PermissionError):
            cached({"a": 1}, lambda _: None, folder=folder)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elec").write_text("")
    with mirror(FILES) as good, refused(tmp_path / "elec" / NAME, "cannot be written", error=OSError):
        fetch(tmp_path / "elec", good.address)


_CHILD = """
import sys
from pathlib import Path
from lightning_advdrop.datamodules.downloads import download
print(download(Path(sys.argv[1]), [sys.argv[2]], sys.argv[3]).stat().st_size, flush=True)
"""


def start(folder: Path, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CHILD, str(folder / NAME), address, md5(CONTENT)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_two_processes_at_once(tmp_path: Path) -> None:
    with mirror(FILES, "slow") as slow:
        children = [start(tmp_path, slow.address) for _ in range(2)]
        printed = [child.communicate(timeout=120)[0] for child in children]
    assert printed == [f"{len(CONTENT)}\n"] * 2
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) & 0o400


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    """What it leaves is not taken for the file."""
    with mirror(FILES, "slow") as slow:
        child = start(tmp_path, slow.address)
        limit = time.monotonic() + 120
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            assert time.monotonic() < limit
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert not (tmp_path / NAME).exists()
    with mirror(FILES) as good:
        assert fetch(tmp_path, good.address).read_bytes() == CONTENT


@pytest.mark.parametrize("behaviour", ["page", "corrupted"])
def test_an_archive_that_cannot_be_unpacked_is_not_kept(tmp_path: Path, behaviour: Behaviour) -> None:
    """Without a checksum the damage is found when the archive is unpacked: nothing of it is taken for the data."""
    with mirror({"elec2.tar.gz": ARCHIVE}, behaviour) as bad, refused("elec2.tar.gz", "damaged", error=DocumentError):
        ElecDataModule(tmp_path, download=True, mirrors=[bad.address]).prepare_data()
    assert list((tmp_path / "elec").iterdir()) == []
    with mirror({"elec2.tar.gz": ARCHIVE}) as good:
        ElecDataModule(tmp_path, download=True, mirrors=[good.address]).prepare_data()
    assert {path.name for path in (tmp_path / "elec").iterdir()} == {*elec_files([]), "elec2.tar.gz"}


def test_an_archive_of_the_user_is_kept(tmp_path: Path) -> None:
    (tmp_path / "elec").mkdir()
    (tmp_path / "elec" / "elec2.tar.gz").write_bytes(ARCHIVE[:-20])
    with refused("elec2.tar.gz", "truncated", error=DocumentError):
        ElecDataModule(tmp_path, download=True).prepare_data()
    assert [path.name for path in (tmp_path / "elec").iterdir()] == ["elec2.tar.gz"]

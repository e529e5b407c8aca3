import errno
import gzip
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pooch  # type: ignore[import-untyped]
import pytest

from lightning_advdrop.datamodules.downloads import DownloadError, check_mirrors, download
from tests.helpers.idx_files import md5
from tests.helpers.messages import each_names, refused
from tests.helpers.servers import Behaviour, mirror

NAME = "labels.gz"
# Longer than one chunk of the download.
CONTENT = bytes(range(256)) * 2000
FILES = {NAME: CONTENT}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def fetch(folder: Path, *mirrors: str) -> Path:
    return download(folder / NAME, mirrors, md5(CONTENT))


def test_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "made" / "on the way" / NAME
    with mirror(FILES) as first, mirror(FILES) as second:
        assert download(target, [first.address, second.address], md5(CONTENT).upper()) == target
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == [NAME]  # noqa: PTH208 - names are what counts
    assert first.requests == [NAME]
    assert second.requests == []
    assert first.user_agents == ["lightning-advdrop (data set download)"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    with mirror(FILES) as good:
        target = fetch(tmp_path, good.address)
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


@pytest.mark.parametrize("behaviour", ["missing", "truncated", "corrupted", "dropped", "hanging up"])
def test_next_mirror_takes_over(tmp_path: Path, behaviour: Behaviour) -> None:
    with mirror(FILES, behaviour) as bad, mirror(FILES) as good:
        target = fetch(tmp_path, bad.address, good.address)
    assert bad.requests == good.requests == [NAME]
    assert target.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [target]


def test_every_mirror_is_named_with_its_reason(tmp_path: Path) -> None:
    with (
        mirror(FILES, "missing") as missing,
        mirror(FILES, "truncated") as truncated,
        mirror(FILES, "corrupted") as corrupted,
        pytest.raises(DownloadError) as caught,
    ):
        fetch(tmp_path, missing.address, truncated.address, corrupted.address)
    corrupted_sum = md5(CONTENT[:-1] + bytes([CONTENT[-1] ^ 0xFF]))
    expected: list[tuple[object, ...]] = [
        (NAME,),
        (missing.address, 404, "Not Found"),
        (truncated.address, "truncated", 256000, 256000),
        (corrupted.address, f"md5:{md5(CONTENT)}", corrupted_sum),
        ("mirrors", tmp_path / NAME),
    ]
    assert each_names(str(caught.value).splitlines(), expected)
    assert list(tmp_path.iterdir()) == []


def test_server_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as bound:
        # Bound but not listening: nobody else can answer at this port.
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        with refused(address, "reached", "refused", error=DownloadError):
            fetch(tmp_path, address)
    assert list(tmp_path.iterdir()) == []


def test_server_that_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with refused(address, "timed out", 0.2, error=DownloadError):
            download(tmp_path / NAME, [address], md5(CONTENT), timeout=0.2)
    assert list(tmp_path.iterdir()) == []


def test_connection_that_ends_without_an_answer(tmp_path: Path) -> None:
    with (
        mirror(FILES, "hanging up") as bad,
        refused(bad.address, "without response", error=DownloadError),
    ):
        fetch(tmp_path, bad.address)
    assert list(tmp_path.iterdir()) == []


def test_compressed_file_stays_compressed(tmp_path: Path) -> None:
    content = gzip.compress(CONTENT)
    with mirror({NAME: content}, "encoded") as encoded:
        target = download(tmp_path / NAME, [encoded.address], md5(content))
    assert target.read_bytes() == content


def test_whole_file_is_not_fetched_again(tmp_path: Path) -> None:
    with mirror(FILES) as good:
        assert fetch(tmp_path, good.address) == fetch(tmp_path, good.address)
    assert good.requests == [NAME]


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_on_terminals_only(
    tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with mirror(FILES) as good:
        fetch(tmp_path, good.address)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("512k/512k" in err) if terminal else (err == "")


def test_nothing_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[Any] = []
    monkeypatch.setattr(pooch.get_logger(), "handle", records.append)
    with mirror(FILES, "missing") as bad, mirror(FILES) as good:
        fetch(tmp_path, bad.address, good.address)
    assert records == []


def test_existing_file_survives_a_failure(tmp_path: Path) -> None:
    target = tmp_path / NAME
    target.write_bytes(b"old")
    with mirror(FILES, "corrupted") as bad, pytest.raises(DownloadError):
        fetch(tmp_path, bad.address)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
def test_interruption_leaves_nothing(tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pooch.HTTPDownloader.__call__

    def interrupted(self: Any, url: str, output_file: str, manager: Any) -> None:
        whole(self, url, output_file, manager)
        assert list(tmp_path.iterdir()) == [Path(output_file)]
        raise error

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with mirror(FILES) as good, mirror(FILES) as other, pytest.raises(type(error)):
        fetch(tmp_path, good.address, other.address)
    assert good.requests == [NAME]
    assert other.requests == []
    assert list(tmp_path.iterdir()) == []


def test_failure_to_write_is_not_blamed_on_the_mirror(tmp_path: Path) -> None:
    target = tmp_path / NAME
    target.mkdir()
    with mirror(FILES) as good, mirror(FILES) as other, pytest.raises(IsADirectoryError):
        fetch(tmp_path, good.address, other.address)
    assert other.requests == []
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mirrors", [[], (), "https://example.org/"])
def test_mirrors_must_be_a_list(mirrors: Any) -> None:
    with refused("mirrors", repr(mirrors)):
        check_mirrors(mirrors)


def test_mirrors_must_be_http_addresses() -> None:
    with refused("mirrors", "http://", "https://", "'ftp://example.org/'"):
        check_mirrors(["https://example.org/", "ftp://example.org/"])


def test_mirrors_get_one_slash() -> None:
    assert check_mirrors(["https://a.org/x", "https://b.org/x/"]) == ("https://a.org/x/", "https://b.org/x/")


def test_timeout_must_be_positive(tmp_path: Path) -> None:
    with refused("timeout", 0, 0):
        download(tmp_path / NAME, ["http://127.0.0.1/"], "0", timeout=0)

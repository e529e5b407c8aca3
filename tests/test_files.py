"""Files are written whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_advdrop.files import write_whole
from tests.helpers.full_disk import largest_file


@pytest.mark.parametrize("content", ["caf\u00e9\r\n", b"caf\xc3\xa9\r\n"])
def test_texts_are_in_utf_8_and_keep_their_line_ends(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    write_whole(path, content)
    assert path.read_bytes() == b"caf\xc3\xa9\r\n"


def test_the_file_of_before_stays_where_there_is_no_room(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with largest_file(4), pytest.raises(OSError, match=r"a\.txt cannot be written \(File too large\): make room"):
        write_whole(path, "after it")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]

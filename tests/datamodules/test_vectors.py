from __future__ import annotations

import gzip
import ssl
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_advdrop.datamodules import DocumentError, Vocabulary
from lightning_advdrop.datamodules.vectors import load_vectors
from tests.helpers.messages import names, refused

VOCABULARY = Vocabulary(["<unk>", "good", "Café", "bad"], [0, 3, 2, 1], unknown="<unk>")
TEXT = "bad 1 2 3\nother 9 9 9\nCafé 0.5 -1 1e-2\n"
EXPECTED = torch.tensor([[0, 0, 0], [0, 0, 0], [0.5, -1, 0.01], [1, 2, 3]])


@pytest.mark.parametrize("header", ["", "3 3\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_vectors_are_looked_up(tmp_path: Path, header: str, packed: bool) -> None:
    path = tmp_path / ("vectors.txt.gz" if packed else "vectors.txt")
    content = f"{header}{TEXT}".encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    torch.testing.assert_close(load_vectors(path, VOCABULARY), EXPECTED)
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    for value in (1, 2):
        path.write_text(f"bad {value} 2 3\n")
        assert load_vectors(path, VOCABULARY)[3, 0] == value


def test_certificates_are_checked_as_before(tmp_path: Path) -> None:
    before = ssl._create_default_https_context
    (tmp_path / "vectors.txt").write_text(TEXT)
    load_vectors(tmp_path / "vectors.txt", VOCABULARY)
    with refused(__file__, "vectors"):
        load_vectors(Path(__file__), VOCABULARY)
    assert ssl._create_default_https_context is before


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    with refused(path, "missing", error=FileNotFoundError):
        load_vectors(path, VOCABULARY)


@pytest.mark.parametrize(
    "content", [b"", b"bad\n", b"bad 1 2 3\ngood 1 2\n", b"bad one two three\n", b"\x1f\x8b"], ids=range(5)
)
def test_what_holds_no_vectors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("vectors.gz" if content.startswith(b"\x1f") else "vectors.txt")
    path.write_bytes(content)
    with refused(path, "vectors", 3):
        load_vectors(path, VOCABULARY)


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        (b"good 1 2 3\nbad 1 nan 3\n", 2, "'nan'"),
        (b"good 1 2 3\nother 1 2 -inf\n", 2, "'-inf'"),
        (b"good 1 2 1e39\n", 1, "'1e39'"),
        (b"good 1 2 3\nbad 1 2 3 4\n", 2, "4 numbers instead of 3"),
        (b"2 300\ngood 1 2 3\n", 2, "3 numbers instead of 300"),
        (b"3 3\ngood 1 2 3\nbad 1 2 3\n", 3, "the end after 2 vectors instead of the 3"),
        (b"good 1 2 3\n2 3\n", 2, "1 numbers instead of 3"),
        (b"good 1 2 3\nCaf\xe9 1 2 3\n", 2, "0xe9"),
        (b"good 1 2 3\nbad\0 1 2 3\n", 2, "0x00"),
        (b"good 1 2 3\n" + b"x" * (1 << 20), 2, "1,048,576 bytes"),
        (b"good " + b"1" * 500_000 + b" 2 3\n", 1, "'1111111"),
    ],
    ids=range(11),
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, line: int, found: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with refused(path, f"line {line}", error=DocumentError) as caught:
        load_vectors(path, VOCABULARY)
    assert found in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "content", ["good 1 2 3\r\nbad 4 5 6\r\n", "good 1 2 3\nbad 4 5 6", "good\t1 2  3 \n\nbad 4 5 6\n"]
)
def test_ends_of_lines_and_blanks(tmp_path: Path, content: str) -> None:
    (tmp_path / "vectors.txt").write_bytes(content.encode())
    assert load_vectors(tmp_path / "vectors.txt", VOCABULARY).tolist() == [[0, 0, 0], [1, 2, 3], [0, 0, 0], [4, 5, 6]]


def test_other_blanks_are_words(tmp_path: Path) -> None:
    """Published files have vectors for a no-break space, and for words that hold one."""
    words = Vocabulary(["\u00a0", "a\u2028b", "\u0085"], [1, 1, 1])
    (tmp_path / "vectors.txt").write_text("\u00a0 1 2 3\na\u2028b 4 5 6\n\u0085 7 8 9\n", newline="\n")
    assert load_vectors(tmp_path / "vectors.txt", words).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_several_vectors_of_one_word(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("bad 1 2 3\nother 1 1 1\nother 2 2 2\ngood 1 1 1\nbad 4 5 6\ngood 1 1 1\n")
    with pytest.warns(UserWarning, match=names(path, 1, "'bad'", 1, 5, "last")):
        assert load_vectors(path, VOCABULARY)[3].tolist() == [4, 5, 6]


def test_only_the_vectors_of_the_vocabulary_are_kept(tmp_path: Path) -> None:
    """Not those of the file: 20,000 vectors of 100 numbers would take 8 MB."""
    path = tmp_path / "vectors.txt"
    with path.open("w") as file:
        file.writelines(f"word{number} {'0.5 ' * 100}\n" for number in range(20_000))
    tracemalloc.start()
    try:
        load_vectors(path, VOCABULARY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("spoil", [lambda packed: packed[:-9], lambda packed: packed[:-6] + b"!" + packed[-5:]])
def test_a_damaged_packed_file(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "vectors.txt.gz"
    path.write_bytes(spoil(gzip.compress(TEXT.encode())))
    with refused(path, "gzip", "vectors", error=DocumentError):
        load_vectors(path, VOCABULARY)

import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_advdrop.datamodules import text_files
from lightning_advdrop.datamodules.text import TEXT_TOKENIZERS, Tokens
from lightning_advdrop.datamodules.text_files import DocumentError, TextSource, checksum, read_words
from tests.helpers.corpora import zipped
from tests.helpers.messages import names, refused


def words_of(content: str | bytes, path: Path, tokens: Tokens = "whitespace") -> list[str]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [word for piece in read_words(TextSource(path), TEXT_TOKENIZERS[tokens]) for word in piece]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "text.txt"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ""),
        ("one", "one <eos>"),
        ("one\n", "one <eos>"),
        ("\n", "<eos>"),
        (" one  two \n\n \nthree", "one two <eos> <eos> <eos> three <eos>"),
        ("one\r\ntwo\rthree\r\n", "one <eos> two <eos> three <eos>"),
        ("one\ttwo\u00a0three", "one two three <eos>"),
        ("\ufeffone\n", "one <eos>"),
        ("  ", "<eos>"),
        ("isn't <unk> = x @-@ y . \n", "isn't <unk> = x @-@ y . <eos>"),
    ],
)
def test_words_between_white_space(path: Path, content: str, expected: str) -> None:
    assert words_of(content, path) == expected.split()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("It isn't, is it?\n", "It isn't , is it ? <eos>"),
        ("the 'end' <unk> <eos> <x>", "the ' end ' <unk> <eos> < x > <eos>"),
        ("caf\u00e9\u2014na\u00efve isn\u2019t 3.5%", "caf\u00e9 \u2014 na\u00efve isn\u2019t 3 . 5 % <eos>"),
    ],
)
def test_words_that_end_at_punctuation(path: Path, content: str, expected: str) -> None:
    assert words_of(content, path, "word") == expected.split()


@given(
    lines=st.lists(st.text("ab\u00e9\u4e2d \t.", max_size=12), max_size=8),
    chunk=st.integers(1, 9),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_pieces_of_any_size_give_the_same_words(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], chunk: int, end: str
) -> None:
    """Words, line ends and characters of several bytes are cut anywhere."""
    content = "".join(line + end for line in lines)
    expected = [word for line in lines for word in [*line.split(), "<eos>"]]
    file = tmp_path_factory.mktemp("pieces") / "text.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_CHUNK", chunk)
        patch.setattr(text_files, "_LONGEST", 100)
        assert words_of(content, file) == expected


def test_a_line_of_ten_million_characters_is_read(path: Path) -> None:
    path.write_text("abcdefghi " * 1_000_000)
    tracemalloc.start()
    try:
        count = sum(len(piece) for piece in read_words(TextSource(path)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 1_000_001
    assert peak < 40 * 2**20  # bytes, for pieces of a million: the whole line would take six times as much


def test_ten_million_characters_without_a_space_are_refused(path: Path) -> None:
    path.write_text("one\ntwo\n\n" + "x" * 10_000_000 + "\nfour")
    with refused(path, "1,000,000", "line 4", error=DocumentError):
        list(read_words(TextSource(path)))


@pytest.mark.parametrize(
    ("content", "byte", "line"),
    [
        (b"\xff", "0xff", 1),
        (b"one\ntwo\n\xe9t\xe9\n", "0xe9", 3),
        (b"one\r\ntwo\r\n\x80", "0x80", 3),
        (b"one\rtwo\r\x80", "0x80", 3),
        (b"one\ntwo \xe4\xb8", "0xe4", 2),
        ("\u4e2d\n".encode() * 500_000 + b"\xc3(", "0xc3", 500_001),
    ],
)
def test_what_is_not_utf8_is_named_with_its_line(path: Path, content: bytes, byte: str, line: int) -> None:
    with refused(path, f"line {line}", byte, "UTF-8", error=DocumentError):
        words_of(content, path)


def test_a_text_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "texts.zip"
    path.write_bytes(zipped({"a/one": "one\n", "a/two": b"two \xff"}))
    assert list(read_words(TextSource(path, "a/one"))) == [["one", "<eos>"]]
    with refused(path, "a/two", "line 1", "0xff", "position 5", error=DocumentError):
        list(read_words(TextSource(path, "a/two")))


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.zip"
    path.write_bytes(zipped({"a/one": "one\n"}))
    with refused(path, "lacks", "a/two", error=DocumentError):
        list(read_words(TextSource(path, "a/two")))


def _tampered(archive: bytes) -> bytes:
    """Flip one bit of the packed text, whose checksum stays."""
    start = archive.index(b"text") + len(b"text") + 30
    return archive[:start] + bytes([archive[start] ^ 4]) + archive[start + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda archive: b"",
        lambda archive: b"<html>not found</html>",
        lambda archive: archive[:-30],
        lambda archive: archive[: len(archive) // 2],
        _tampered,
        lambda archive: archive.replace(b"\x08\x00", b"\x63\x00"),  # an unknown way of packing
    ],
    ids=["empty", "page", "truncated", "half", "tampered", "unknown packing"],
)
def test_spoilt_archives(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "texts.zip"
    content = "".join(f"word{number}\n" for number in range(2000))
    archive = zipped({"text": content})
    path.write_bytes(archive)
    assert sum(map(len, read_words(TextSource(path, "text")))) == 4000
    path.write_bytes(spoil(archive))  # type: ignore[operator]
    with refused(path, "(text)", "unpacked", error=DocumentError):
        list(read_words(TextSource(path, "text")))


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.zip"
    archive = bytearray(zipped({"text": "one\n"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(signature) + offset] |= 1
    path.write_bytes(bytes(archive))
    assert zipfile.is_zipfile(path)
    with refused(path, "encrypted", error=DocumentError):
        list(read_words(TextSource(path, "text")))


def test_a_missing_file_keeps_its_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_words(TextSource(path)))


def test_checksums_are_those_of_the_content(tmp_path: Path) -> None:
    for name, content in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(content)
    a, b, c = (checksum(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("old", "new", "found"), [("TextFormatError", "DocumentError", DocumentError), ("END_OF_LINE", "END", "<eos>")]
)
def test_old_names_warn(old: str, new: str, found: object) -> None:
    with pytest.warns(DeprecationWarning, match=names(old, new)):
        assert getattr(text_files, old) == found

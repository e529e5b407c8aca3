"""Reading documents and running texts from UTF-8 files."""

from __future__ import annotations

import codecs
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

from lightning_advdrop._deprecation import renamed_attributes
from lightning_advdrop.datamodules.text import END
from lightning_advdrop.datamodules.unpacking import bounded
from lightning_advdrop.files import TEXT_ENCODING

Part = Literal["train", "validation", "test", "unlabelled"]
"""Published part that a document belongs to."""

_CHUNK = 1 << 20
# Characters kept until the end of their word, so that memory is bounded.
_LONGEST = 1_000_000
_LONGEST_LABEL, _SHORT = 100, 60
_NUL = "\0"
# The mark of UTF-32 in little-endian order begins with that of UTF-16, and so is looked for before it.
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_UNPACKING_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, struct.error)


class DocumentError(ValueError):
    """Invalid content of a text file or archive; the message names file, line and content, and what to do."""


__getattr__ = renamed_attributes(__name__, {"TextFormatError": "DocumentError", "END_OF_LINE": "END"})


class Document(NamedTuple):
    """One document of a data set.

    Example:
        >>> Document("train", 1, key="pos/0_9.txt", words=["Good", "film"]).label
        1
    """

    part: Part
    """Published part."""
    label: int
    """From 0, or `UNLABELLED`."""
    key: str | int
    """Sort key within the part: the order of reading does not matter."""
    words: Iterable[str]
    """At least one; iterated once."""


class TextSource(NamedTuple):
    """Location of a text.

    Example:
        >>> str(TextSource(Path("wikitext-2-v1.zip"), "wikitext-2/wiki.test.tokens"))
        'wikitext-2-v1.zip (wikitext-2/wiki.test.tokens)'
    """

    path: Path
    """The file."""
    member: str | None = None
    """Name of the text in the file, if that is a zip archive; ``None`` for a plain file."""

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path} ({self.member})"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Read a UTF-8 file line by line: the line number, from 1, and the line without its end.

    Lines end with ``\n`` or ``\r\n`` only: the other line ends of Unicode can be part of a document. A byte order mark
    is skipped.

    Raises:
        FileNotFoundError: If there is no such file.
        DocumentError: If a line is not text in UTF-8.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "reviews")
        ...     _ = path.write_text("fine\nbad\n")
        ...     list(read_lines(path))
        [(1, 'fine'), (2, 'bad')]
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, decode(line.removesuffix(b"\n").removesuffix(b"\r"), path, number)


def read_words(source: TextSource, split: Callable[[str], list[str]] = str.split) -> Iterator[list[str]]:
    r"""Read the words of a running text, with an `END` after each line, empty ones included.

    The text is read in pieces of a million characters: memory depends neither on its length nor on that of its lines.
    Lines end with a line feed, a carriage return or both; the last one need not. A byte order mark is skipped.

    Args:
        source: Location of the text, in UTF-8.
        split: Function that splits a piece of whole words.

    Yields:
        The words of the next piece, in their order.

    Raises:
        DocumentError: If the file is not a valid zip archive with that member, or the text is not UTF-8 or has a word
            of more than two million characters; one million may be too many, too.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "text").write_text("It isn't.\n\nYes")
        ...     [word for piece in read_words(TextSource(Path(folder, "text"))) for word in piece]
        ['It', "isn't.", '<eos>', '<eos>', 'Yes', '<eos>']
    """
    line, rest, last = 1, "", "\n"
    for piece in _decoded_pieces(source):
        text = rest + piece
        end = max(text.rfind(" "), text.rfind("\n"), text.rfind("\t")) + 1
        rest, last = text[end:], piece[-1]
        line += text.count("\n", 0, end)
        if len(rest) > _LONGEST:
            raise DocumentError(
                f"{source} has more than {_LONGEST:,} characters without a space in line {line}: is it text?"
            )
        yield split(text[:end].replace("\n", f" {END} "))
    if last != "\n":
        yield [*split(rest), END]


def _decoded_pieces(source: TextSource) -> Iterator[str]:
    """Decode UTF-8 in pieces that are not empty, with line feeds for all line ends."""
    with _opened(source) as file, io.TextIOWrapper(file, encoding=TEXT_ENCODING) as text:
        try:
            while piece := text.read(_CHUNK):
                if _NUL in piece:
                    _refuse_line(source)
                yield piece
        except UnicodeDecodeError:
            _refuse_line(source)
            raise


def _refuse_line(source: TextSource) -> None:
    """Raise `DocumentError` for the first line that is not text."""
    with _opened(source) as file, io.TextIOWrapper(file, "utf-8", "surrogateescape") as lines:
        number = 1
        while line := lines.readline(_LONGEST):
            decode(line.encode("utf-8", "surrogateescape"), source, number)
            number += line.endswith("\n")


@contextmanager
def _opened(source: TextSource) -> Iterator[IO[bytes]]:
    """Open a text, and turn the errors of reading an archive into `DocumentError`."""
    if source.member is None:
        with source.path.open("rb") as file:
            yield file
        return
    try:
        with zipfile.ZipFile(source.path) as archive:
            if archive.namelist().count(source.member) > 1:
                raise DocumentError(
                    f"{source} is there more than once: expected one text of each name; delete the file and download it"
                    " again"
                )
            with bounded(archive.open(source.member), source.path, DocumentError) as file:
                yield file
    except KeyError:
        raise DocumentError(f"{source.path} lacks {source.member}; delete the file and download it again") from None
    except FileNotFoundError:
        raise
    except _UNPACKING_ERRORS as error:
        raise DocumentError(f"{source} cannot be unpacked ({error}); delete the file and download it again") from error


def decode(raw: bytes, source: object, first_line: int = 1) -> str:
    r"""Decode UTF-8 lines, numbered from ``first_line``; raise `DocumentError` for what is no text, with its place.

    A byte order mark at the beginning of line 1 is skipped. NUL characters are no text: files in UTF-16 have them.

    Example:
        >>> try:
        ...     decode(b"caf\xe9", "a.txt", 7)
        ... except DocumentError as error:
        ...     print(error)
        a.txt, line 7: found byte 0xe9 at position 4 of the line, expected UTF-8; convert the file
    """
    start = len(codecs.BOM_UTF8) if first_line == 1 and raw.startswith(codecs.BOM_UTF8) else 0
    wide = next((name for mark, name in _WIDE.items() if raw.startswith(mark)), None) if first_line == 1 else None
    if wide is not None:
        raise DocumentError(f"{source}: found the byte order mark of {wide}, expected UTF-8; convert the file")
    try:
        text = raw[start:].decode("utf-8")
        wrong = raw.find(0)
    except UnicodeDecodeError as error:
        wrong = start + error.start
    if wrong >= 0:
        before = raw[:wrong]
        line, position = first_line + before.count(b"\n"), wrong - before.rfind(b"\n")
        raise DocumentError(
            f"{source}, line {line}: found byte {raw[wrong]:#04x} at position {position} of the line, expected"
            " UTF-8; convert the file"
        )
    return text


def check_label(text: str, low: int, high: int, path: Path, line: int) -> int:
    """Parse a label in digits, from ``low`` to ``high``, and return it minus ``low``; `DocumentError` for others.

    Example:
        >>> check_label("2", 1, 2, Path("elec-test.cat"), 1)
        1
    """
    digits = text.strip()
    # Python refuses to read numbers of thousands of digits.
    if not (digits.isascii() and digits.isdigit() and len(digits) < _LONGEST_LABEL) or not low <= int(digits) <= high:
        raise DocumentError(
            f"{path}, line {line}: found the label {shortened(text)}, expected a whole number from {low} to {high}"
        )
    return int(digits) - low


def shortened(text: str) -> str:
    """Return the ``repr`` of a text for a message, which would not be read with more than a few words.

    Example:
        >>> shortened("pos"), len(shortened("pos" * 1000))
        ("'pos'", 65)
    """
    return repr(text) if len(text) <= _SHORT else f"{text[:_SHORT]!r}..."


def check_words(words: Sequence[str], path: Path, line: int) -> Sequence[str]:
    """Return the words of a document; raise `DocumentError` if there is none.

    Example:
        >>> check_words(["fine"], Path("reviews"), 1)
        ['fine']
    """
    if not words:
        raise DocumentError(f"{path}, line {line}: found a document without a word, expected at least one; remove it")
    return words


def checksum(path: Path) -> str:
    """Return the SHA-256 of the content of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

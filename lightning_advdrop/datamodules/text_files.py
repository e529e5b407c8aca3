"""Reading documents and running texts from files in UTF-8, and reporting what is wrong with a file."""

from __future__ import annotations

import codecs
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

from lightning_advdrop._deprecation import renamed_attributes
from lightning_advdrop.datamodules.text import END
from lightning_advdrop.datamodules.tokenizing import split_at_blanks

Part = Literal["train", "validation", "test", "unlabelled"]
"""Published part that a document belongs to."""
END_OF_LINE = END
"""The word at the end of each line of a running text."""

_CHUNK = 1 << 20
# What is kept of a piece until its word ends, so that memory is bounded.
_LONGEST = 1_000_000
_UNPACKING_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class DocumentError(ValueError):
    """A file does not hold the text it should; the message names file, line and content, and what to do."""


__getattr__ = renamed_attributes(__name__, {"TextFormatError": "DocumentError"})


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
    """Documents of a part are put in the order of their keys, whatever the order in which they are read."""
    words: Iterable[str]
    """At least one; iterated once."""


class TextSource(NamedTuple):
    """Place of a text.

    Example:
        >>> str(TextSource(Path("wikitext-2-v1.zip"), "wikitext-2/wiki.test.tokens"))
        'wikitext-2-v1.zip (wikitext-2/wiki.test.tokens)'
    """

    path: Path
    """The file."""
    member: str | None = None
    """Name of the text inside the file, if that is a zip archive; ``None`` for a plain file."""

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path} ({self.member})"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Read a text file in UTF-8 line by line.

    Lines end with ``\n`` (or ``\r\n``) and nothing else: other characters that Unicode calls line ends can be part of
    a document.

    Args:
        path: The file.

    Yields:
        The number of the line, from 1, and the line without its end.

    Raises:
        FileNotFoundError: If there is no such file.
        DocumentError: If a line is not valid UTF-8.

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


def read_words(source: TextSource, split: Callable[[str], list[str]] = split_at_blanks) -> Iterator[list[str]]:
    r"""Read the words of a running text, with an `END_OF_LINE` after each line, empty ones included.

    The text is read in pieces of a million bytes: memory does not depend on its length, nor on that of its lines.
    Lines end with a line feed, a carriage return, or both; the last one need not. A byte order mark is left out.

    Args:
        source: Place of the text, in UTF-8.
        split: Splits a piece, whose ends lie between words, into words.

    Yields:
        The words of the next piece, in their order.

    Raises:
        OSError: If the file cannot be read.
        DocumentError: If the file is no whole zip archive with that member, or the text is not UTF-8 or goes on
            without white space for more than two million characters; from one million on it may be refused.

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
        yield split(text[:end].replace("\n", f" {END_OF_LINE} "))
    if last != "\n":
        yield [*split(rest), END_OF_LINE]


def _decoded_pieces(source: TextSource) -> Iterator[str]:
    """Decode UTF-8 piece by piece, all line ends as line feeds; no piece is empty."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    line, chunk = 1, b"?"
    with _opened(source) as file:
        while chunk:
            chunk = file.read(_CHUNK)
            try:
                piece = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                raise _not_utf8(error, source, line + before.count(b"\n")) from None
            line += piece.count("\n")
            if piece:
                yield piece


@contextmanager
def _opened(source: TextSource) -> Iterator[IO[bytes]]:
    """Open a text, and word what is wrong with an archive while it is read."""
    if source.member is None:
        with source.path.open("rb") as file:
            yield file
        return
    try:
        with zipfile.ZipFile(source.path) as archive, archive.open(source.member) as file:
            yield file
    except KeyError:
        raise DocumentError(f"{source.path} lacks {source.member}; delete the file and download it again") from None
    except _UNPACKING_ERRORS as error:
        raise DocumentError(f"{source} cannot be unpacked ({error}); delete the file and download it again") from error


def decode(raw: bytes, path: Path | str, first_line: int = 1) -> str:
    r"""Decode UTF-8.

    Args:
        raw: The bytes.
        path: Where they come from, for the message.
        first_line: Number of their first line in that file.

    Returns:
        The text.

    Raises:
        DocumentError: If they are not valid UTF-8; it names the file, the line and the byte.

    Example:
        >>> try:
        ...     decode(b"caf\xe9", "a.txt", 7)
        ... except DocumentError as error:
        ...     print(error)
        a.txt, line 7: found byte 0xe9 at position 4 of the line, expected UTF-8; convert the file
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, position = first_line + before.count(b"\n"), error.start - before.rfind(b"\n")
        raise _not_utf8(error, path, line, f" at position {position} of the line") from None


def _not_utf8(error: UnicodeDecodeError, where: object, line: int, position: str = "") -> DocumentError:
    byte = f"found byte {error.object[error.start]:#04x}{position}"
    return DocumentError(f"{where}, line {line}: {byte}, expected UTF-8; convert the file")


def check_label(text: str, low: int, high: int, path: Path, line: int) -> int:
    """Read a label.

    Args:
        text: A whole number in digits, blanks around it allowed.
        low: Smallest label allowed.
        high: Largest label allowed.
        path: The file, for the message.
        line: The line, for the message.

    Returns:
        The label minus ``low``: it counts from 0.

    Raises:
        DocumentError: If ``text`` is something else or the label is out of range.

    Example:
        >>> check_label("2", 1, 2, Path("elec-test.cat"), 1)
        1
    """
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()) or not low <= int(digits) <= high:
        raise DocumentError(
            f"{path}, line {line}: found the label {text!r}, expected a whole number from {low} to {high}"
        )
    return int(digits) - low


def check_words(words: Sequence[str], path: Path, line: int) -> Sequence[str]:
    """Return the words of a document if there are any.

    Args:
        words: Its words.
        path: The file, for the message.
        line: The line, for the message.

    Raises:
        DocumentError: If there is none.

    Example:
        >>> check_words(["fine"], Path("reviews"), 1)
        ['fine']
    """
    if not words:
        raise DocumentError(f"{path}, line {line}: found a document without a word, expected at least one; remove it")
    return words


def checksum(path: Path) -> str:
    """Return the SHA-256 of the content of a file, hexadecimal.

    Raises:
        OSError: If the file cannot be read.

    Example:
        >>> checksum(Path(__file__)) == checksum(Path(__file__))
        True
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

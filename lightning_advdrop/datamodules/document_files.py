"""Documents as they come out of the files of a data set, and what is said about files that are not right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Part = Literal["train", "test", "unlabelled"]
"""Which published part a document belongs to."""


class DocumentError(ValueError):
    """A file does not hold the documents it should; the message names file and line, what was found and what to do."""


class Document(NamedTuple):
    """One document of a data set.

    Example:
        >>> Document("train", 1, key="pos/0_9.txt", words=["Good", "film"]).label
        1
    """

    part: Part
    """The published part."""
    label: int
    """From 0, or `UNLABELLED`."""
    key: str | int
    """Documents of a part are put in the order of their keys, whatever the order in which they are read."""
    words: Sequence[str]
    """At least one."""


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
        for number, raw in enumerate(file, start=1):
            line = raw[:-1] if raw.endswith(b"\n") else raw
            yield number, decode(line.removesuffix(b"\r"), path, number)


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
        raise DocumentError(
            f"{path}, line {line}: found byte 0x{raw[error.start]:02x} at position {position} of the line, expected"
            " UTF-8; convert the file"
        ) from None


def check_label(text: str, low: int, high: int, path: Path | str, line: int) -> int:
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
        >>> check_label("2", 1, 2, "elec-test.cat", 1)
        1
    """
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()) or not low <= int(digits) <= high:
        raise DocumentError(
            f"{path}, line {line}: found the label {text!r}, expected a whole number from {low} to {high}"
        )
    return int(digits) - low


def check_words(words: Sequence[str], path: Path | str, line: int) -> Sequence[str]:
    """Check that a document has words.

    Args:
        words: Its words.
        path: The file, for the message.
        line: The line, for the message.

    Returns:
        The same words.

    Raises:
        DocumentError: If there is none.

    Example:
        >>> check_words(["fine"], "reviews", 1)
        ['fine']
    """
    if not words:
        raise DocumentError(f"{path}, line {line}: found a document without a word, expected at least one; remove it")
    return words


def checksum(path: Path) -> str:
    """Hash the content of a file.

    Args:
        path: The file.

    Returns:
        SHA-256, hexadecimal.

    Raises:
        OSError: If the file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "empty")
        ...     path.touch()
        ...     checksum(path)[:8]
        'e3b0c442'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def names_checksum(paths: Iterable[Path]) -> str:
    """Hash the names of many files with their sizes and the times of their last change, not their content.

    Args:
        paths: The files.

    Returns:
        SHA-256, hexadecimal.

    Raises:
        OSError: If a file is not there.

    Example:
        >>> names_checksum([])[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()

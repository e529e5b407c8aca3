"""Reading words from text files, plain or inside a zip archive, in bounded memory."""

import codecs
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

UNKNOWN = "<unk>"
"""The word that stands for all that are not in the vocabulary."""
END_OF_LINE = "<eos>"
"""The word at the end of each line."""

Tokens = Literal["whitespace", "word"]

_CHUNK = 1 << 20
# What is kept of a piece until its word ends, so that memory is bounded.
_LONGEST = 1_000_000
_WORD = re.compile(rf"{UNKNOWN}|{END_OF_LINE}|\w+(?:['\u2019]\w+)*|[^\w\s]")
_SPLITTERS: dict[Tokens, Callable[[str], list[str]]] = {"whitespace": str.split, "word": _WORD.findall}
_UNPACKING_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class TextFormatError(ValueError):
    """A file is not the text it should be; the message names the file, the line where there is one, and what to do."""


class TextSource(NamedTuple):
    """Where a text lies.

    Attributes:
        path: The file.
        member: Name of the text inside the file, if that is a zip archive; ``None`` for a plain file.

    Example:
        >>> str(TextSource(Path("wikitext-2-v1.zip"), "wikitext-2/wiki.test.tokens"))
        'wikitext-2-v1.zip (wikitext-2/wiki.test.tokens)'
    """

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path} ({self.member})"


def fingerprint(path: Path) -> str:
    """Return a hash of the content of a file.

    Args:
        path: The file.

    Returns:
        Hexadecimal digits, equal for equal contents.

    Raises:
        OSError: If the file cannot be read.

    Example:
        >>> fingerprint(Path(__file__)) == fingerprint(Path(__file__))
        True
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_words(source: TextSource, tokens: Tokens = "whitespace") -> Iterator[list[str]]:
    r"""Read the words of a text, with one :data:`END_OF_LINE` after each line, empty ones included.

    The text is read in pieces of a million bytes: memory does not depend on its length, nor on that of its lines.
    Lines end with a line feed, a carriage return, or both; the last one need not. A byte order mark is left out.

    Args:
        source: Where the text lies, in UTF-8.
        tokens: ``"whitespace"``: words are what stands between white space; ``"word"``: letters and digits (with
            apostrophes inside) and single other characters are words, too; case is kept.

    Yields:
        The words of the next piece, in their order.

    Raises:
        ValueError: If ``tokens`` is another string.
        OSError: If the file cannot be read.
        TextFormatError: If the file is no whole zip archive with that member, or the text is not UTF-8 or goes on
            without white space for more than two million characters; from one million on it may be refused.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "text").write_text("It isn't.\n\nYes")
        ...     for tokens in ("whitespace", "word"):
        ...         print([word for piece in read_words(TextSource(Path(folder, "text")), tokens) for word in piece])
        ['It', "isn't.", '<eos>', '<eos>', 'Yes', '<eos>']
        ['It', "isn't", '.', '<eos>', '<eos>', 'Yes', '<eos>']
    """
    check_tokens(tokens)
    split = _SPLITTERS[tokens]
    line, rest, last = 1, "", "\n"
    with _opened(source) as file:
        for piece in _decoded(file, source):
            text = rest + piece
            end = max(text.rfind(" "), text.rfind("\n"), text.rfind("\t")) + 1
            rest, last = text[end:], piece[-1]
            line += text.count("\n", 0, end)
            if len(rest) > _LONGEST:
                raise TextFormatError(
                    f"{source} has more than {_LONGEST:,} characters without a space in line {line}: is it text?"
                )
            yield split(text[:end].replace("\n", f" {END_OF_LINE} "))
    if last != "\n":
        yield [*split(rest), END_OF_LINE]


def check_tokens(tokens: str) -> None:
    """Raise if a way to find words is none of those there are.

    Args:
        tokens: What the user gave.

    Raises:
        ValueError: If it is neither ``"whitespace"`` nor ``"word"``.

    Example:
        >>> check_tokens("letters")
        Traceback (most recent call last):
        ...
        ValueError: tokens must be 'whitespace' or 'word', got 'letters'
    """
    if tokens not in _SPLITTERS:
        raise ValueError(f"tokens must be 'whitespace' or 'word', got {tokens!r}")


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
        raise TextFormatError(f"{source.path} lacks {source.member}; delete the file and download it again") from None
    except _UNPACKING_ERRORS as error:
        raise TextFormatError(
            f"{source} cannot be unpacked ({error}); delete the file and download it again"
        ) from error


def _decoded(file: IO[bytes], source: TextSource) -> Iterator[str]:
    """Decode UTF-8 piece by piece, all line ends as line feeds; no piece is empty."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    line = 1
    at_end = False
    while not at_end:
        chunk = file.read(_CHUNK)
        at_end = not chunk
        try:
            piece = decoder.decode(chunk, final=at_end)
        except UnicodeDecodeError as error:
            line += _line_ends(error.object[: error.start])
            raise TextFormatError(
                f"{source} is not UTF-8: found the byte {error.object[error.start]:#04x} in line {line}"
            ) from None
        line += piece.count("\n")
        if piece:
            yield piece


def _line_ends(content: bytes) -> int:
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n")

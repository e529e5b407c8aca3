"""Reading pretrained word vectors."""

from __future__ import annotations

import gzip
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_advdrop.datamodules.text import Vocabulary
from lightning_advdrop.datamodules.text_files import DocumentError, decode, shortened
from lightning_advdrop.datamodules.unpacking import bounded

_GZIP_MAGIC = b"\x1f\x8b"
# Bytes of a line, so that memory is bounded.
_LONGEST = 1 << 20
_FEWEST = 3
_EXPECTED = f"expected pretrained vectors: a word and at least {_FEWEST} finite numbers a line, as many in each line"

_BLANKS = re.compile(r"[ \t]+")
_HEADER = re.compile(r"(\d{1,18})[ \t]+(\d{1,9})", re.ASCII)
_LARGEST = float(np.finfo(np.float32).max)

Numbers = npt.NDArray[np.float64]


def load_vectors(path: Path, vocabulary: Vocabulary) -> Tensor:
    r"""Read pretrained word vectors in the text format of word2vec and GloVe: a word and its numbers a line.

    The file is read line by line, and only the vectors of the vocabulary are kept. Its first line may be word2vec's:
    the number of vectors and that of their elements. A byte order mark is skipped.

    Args:
        path: The file, plain or compressed with gzip, in UTF-8.
        vocabulary: The words to look up.

    Returns:
        ``(V, D)`` of dtype ``float32``; zero for words missing from the file. Of several vectors of one word the last
        one counts; if they differ, a warning says so.

    Raises:
        FileNotFoundError: If there is no such file.
        DocumentError: If the file has another format, or an element is NaN or infinite; it names the file and the line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "vectors.txt")
        ...     _ = path.write_text("be 1 2 3\nor 4 5 6\n")
        ...     load_vectors(path, Vocabulary(["to", "be"], [1, 1]))
        tensor([[0., 0., 0.],
                [1., 2., 3.]])
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: found no such file, expected pretrained vectors; correct the path")
    found: Tensor | None = None
    lines: dict[int, int] = {}
    ambiguous: dict[str, tuple[int, int]] = {}
    for line, word, numbers in _read_vectors(path):
        if found is None:
            found = torch.zeros(len(vocabulary), len(numbers))
        row = vocabulary.index.get(word)
        if row is None:
            continue
        vector = torch.from_numpy(numbers).float()
        if row in lines and not torch.equal(found[row], vector):
            ambiguous[word] = (lines[row], line)
        lines[row] = line
        found[row] = vector
    if found is None:
        raise DocumentError(f"{path}: found no line with a vector, {_EXPECTED}")
    if ambiguous:
        word, (first, second) = next(iter(ambiguous.items()))
        warnings.warn(
            f"{path} has several vectors for {len(ambiguous)} words of the vocabulary, such as {word!r} in lines"
            f" {first} and {second}: the last one counts, remove the others.",
            stacklevel=2,
        )
    return found


def _read_vectors(path: Path) -> Iterator[tuple[int, str, Numbers]]:
    """Yield the line number, the word and the numbers of each line."""
    length: int | None = None
    stated, read, line = None, 0, 0
    for line, text in _read_lines(path):
        if line == 1 and (header := _HEADER.fullmatch(text)):
            stated, length = int(header[1]), int(header[2])
            continue
        # Only at ASCII blanks: other ones are words of published files.
        word, *entries = _BLANKS.split(text)
        if len(entries) < _FEWEST or len(entries) != (length or len(entries)):
            found = f"{len(entries)} numbers"
            _refuse(path, line, found if length is None else f"{found} instead of {length} as before")
        length, read = len(entries), read + 1
        yield line, word, _numbers(entries, path, line)
    if stated not in (None, read):
        _refuse(path, line, f"the end after {read} vectors instead of the {stated} of the first line")


def _numbers(entries: list[str], path: Path, line: int) -> Numbers:
    numbers = []
    for entry in entries:
        try:
            numbers.append(float(entry))
        except ValueError:
            _refuse(path, line, shortened(entry))
        if not abs(numbers[-1]) <= _LARGEST:  # also NaN
            _refuse(path, line, shortened(entry))
    return np.array(numbers)


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not blank."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    try:
        with bounded(gzip.open(path), path, DocumentError) if packed else path.open("rb") as file:
            for line, raw in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
                if len(raw) == _LONGEST:
                    _refuse(path, line, f"more than {_LONGEST:,} bytes")
                if text := decode(raw, path, line).strip(" \t\r\n"):
                    yield line, text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DocumentError(
            f"{path}: found a gzip file that cannot be unpacked ({error}), {_EXPECTED}; download it again"
        ) from error


def _refuse(path: Path, line: int, found: str) -> NoReturn:
    raise DocumentError(f"{path}, line {line}: found {found}, {_EXPECTED}")

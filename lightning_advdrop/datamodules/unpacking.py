"""Reading compressed files without trusting their sizes."""

from __future__ import annotations

import io
from gzip import GzipFile
from pathlib import Path
from typing import IO, Any

_SPARE = 1 << 26
_RATIO = 20  # texts and images unpack to less than ten times their size


def bounded(file: IO[bytes] | GzipFile, path: Path, error: type[Exception]) -> io.BufferedReader:
    """Refuse to unpack much more than a data set can hold: a small file can unpack to any size.

    Args:
        file: The file that unpacks; closed together with the reader that is returned.
        path: The compressed file: 64 MiB more than 20 times its size are allowed.
        error: Class of the exception that reading more raises.

    Example:
        >>> bounded(io.BytesIO(b"unpacked"), Path(__file__), ValueError).read()
        b'unpacked'
    """
    return io.BufferedReader(_Bounded(file, path, error))


class _Bounded(io.RawIOBase):
    def __init__(self, file: IO[bytes] | GzipFile, path: Path, error: type[Exception]) -> None:
        super().__init__()
        self._file, self._path, self._error = file, path, error
        self._most = self._left = _SPARE + _RATIO * path.stat().st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise self._error(
                f"{self._path} unpacks to more than {self._most} bytes: expected less than 64 MiB and {_RATIO} times"
                " its size; delete the file and download it again"
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()

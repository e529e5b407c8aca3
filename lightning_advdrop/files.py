"""Read texts in one encoding, write files atomically, and find the files that come with this package."""

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEXT_ENCODING = "utf-8-sig"
"""Encoding of every text that a user gives: UTF-8, with or without a byte order mark, as spreadsheets write it."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PACKAGE = Path(__file__).parent


def configs_folder() -> Path:
    """Return the folder of the configurations: within the package in a wheel, beside it in a clone.

    Example:
        >>> (configs_folder() / "smnist_rows.yaml").is_file()
        True
    """
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Add the path and what to do to the errors of writing a file: a full disk, a folder that is read-only or none.

    Args:
        path: the file or folder that is written.

    Raises:
        OSError: if it cannot be written, of the class and with the number of the system's own error.

    Example:
        >>> with writing(Path("labels.gz")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        ...
        OSError: [Errno 28] labels.gz cannot be written (No space left on device): make room, or name another folder
    """
    handled = sys.exc_info()[1]
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = _of_system(error, handled)
        if cause is None:
            raise
        remedy = "make room, or name another folder" if cause.errno in _FULL else "name a folder that can be written"
        message = f"{path} cannot be written ({cause.strerror or cause}): {remedy}"
        raise (OSError(message) if cause.errno is None else OSError(cause.errno, message)) from error


def _of_system(error: BaseException, handled: BaseException | None) -> OSError | None:
    """The system's error behind one that was raised while another one was ``handled``; None if there is none."""
    if isinstance(error, OSError):
        # Libraries wrap the system's errors.
        return error.__cause__ if error.errno is None and isinstance(error.__cause__, OSError) else error
    # torch can't end a file that it could not write, and raises an error about that in place of the system's.
    before = error.__context__
    while before is not None and before is not handled and not isinstance(before, OSError):
        before = before.__context__
    return before if isinstance(before, OSError) and before is not handled else None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file moves to ``path`` at the end, unless there was an exception.

    Args:
        path: the file to write or replace, in a folder that exists.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder, "a.txt")) as partial:
        ...         _ = partial.write_text("whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['a.txt']
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically; a text in UTF-8.

    Args:
        path: the file to write or replace, in a folder that exists.
        content: all that it will hold.

    Raises:
        OSError: if it cannot be written; the message has the path and what to do.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a.txt"), "whole")
        ...     [(file.name, file.read_text()) for file in Path(folder).iterdir()]
        [('a.txt', 'whole')]
    """
    with writing(path), replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)

"""Errors of the report."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ReportError(ValueError):
    """Raised if no report can be made; the message names what was sought and found, and the remedy."""


class RunError(ReportError):
    """Raised if one run cannot be used; the message gives the reason, without the name of the run's folder."""


@contextmanager
def reading(path: Path, writer: str) -> Iterator[None]:
    """Turn the errors of reading a file of a run into `RunError`.

    Args:
        path: The file.
        writer: The name of the program that writes it, for the message.

    Raises:
        RunError: If the file is missing, unreadable or damaged.

    Example:
        >>> with reading(Path("no-such-file"), "nobody"):
        ...     Path("no-such-file").read_text()
        Traceback (most recent call last):
        ...
        lightning_advdrop.report.errors.RunError: found no no-such-file, which nobody writes
    """
    try:
        yield
    except RunError:
        raise
    except FileNotFoundError:
        raise RunError(f"found no {path.name}, which {writer} writes") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path.name} cannot be read ({error})") from error
    except ValueError as error:
        raise RunError(str(error)) from error

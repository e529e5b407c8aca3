"""Tell what a user of the commands can act on from mistakes in code."""

from __future__ import annotations

import os
import traceback

from lightning_advdrop._extras import MissingExtraError

TRACEBACK_VARIABLE = "LIGHTNING_ADVDROP_TRACEBACK"
"""Environment variable that, set to anything, has the commands show where an exception was raised."""


def raised_here(error: BaseException) -> bool:
    """Return whether code of this package raised an exception, or called a built-in function that did.

    Example:
        >>> raised_here(ValueError("never raised"))
        False
    """
    raised_in = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    return [name.partition(".")[0] for name in raised_in] == [__name__.partition(".")[0]]


def refusal(error: BaseException) -> str | None:
    """Return the message of an exception, if that is all that a user of a command needs; otherwise None.

    So it is of a missing file, and of what this package itself raises about arguments, files and losses, also where it
    is the cause of another exception. Whatever else goes wrong may lie in the user's own model: there the place
    matters, too.

    Example:
        >>> refusal(FileNotFoundError("ckpt_path: no such file")), refusal(KeyError("state_dict"))
        ('ckpt_path: no such file', None)
    """
    from lightning_advdrop.datamodules.downloads import DownloadError

    if os.environ.get(TRACEBACK_VARIABLE):
        return None
    refusals = (ValueError, DownloadError, FloatingPointError, OSError, MissingExtraError)
    if isinstance(error, FileNotFoundError) or (raised_here(error) and isinstance(error, refusals)):
        return str(error)
    # What makes objects from a configuration wraps what they raise.
    return None if error.__cause__ is None else refusal(error.__cause__)

"""Tell what a user did wrong from what went wrong in the code."""

from __future__ import annotations

import os
import traceback

from lightning_advdrop.datamodules.downloads import DownloadError

TRACEBACK_VARIABLE = "LIGHTNING_ADVDROP_TRACEBACK"
"""Environment variable that, set to anything, has the commands show where an exception was raised."""

# What this package raises with a sentence that says what is wrong and what to do.
_SAYING = (ValueError, DownloadError, FloatingPointError)


def refusal(error: BaseException) -> str | None:
    """Return the message of an exception, if that is all that a user of a command needs.

    So it is of a missing file, and of what this package itself raises about arguments, files and losses, also where it
    is the cause of another exception. Whatever else goes wrong may lie in the user's own model: there the place
    matters, too.

    Args:
        error: what was raised and caught.

    Returns:
        The message, or None.

    Example:
        >>> refusal(FileNotFoundError("ckpt_path: no such file")), refusal(KeyError("state_dict"))
        ('ckpt_path: no such file', None)
    """
    if os.environ.get(TRACEBACK_VARIABLE):
        return None
    if isinstance(error, FileNotFoundError) or (isinstance(error, _SAYING) and _is_ours(error)):
        return str(error)
    # What makes objects from a configuration wraps what they raise.
    return None if error.__cause__ is None else refusal(error.__cause__)


def _is_ours(error: BaseException) -> bool:
    """Whether it was raised in this package."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].partition(".")[0] == __name__.partition(".")[0]

"""Folders of data sets and of prepared data."""

from __future__ import annotations

import os
from pathlib import Path

from lightning_advdrop._extras import needed

DATA_ROOT_VARIABLE = "LIGHTNING_ADVDROP_DATA"
"""Environment variable that names the folder holding one sub-folder per data set."""
CACHE_VARIABLE = "LIGHTNING_ADVDROP_CACHE"
"""Environment variable that names the folder of prepared data."""


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder that holds one sub-folder per data set.

    Args:
        root: The folder, ``~`` allowed; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA`` and, where
            that is unset or empty, for the folder ``data`` of the current directory. It need not exist.

    Raises:
        ValueError: If ``root`` is an empty string.

    Example:
        >>> data_root("datasets").as_posix()
        'datasets'
    """
    return _named("root", root, DATA_ROOT_VARIABLE) or Path("data")


def cache_root(folder: str | Path | None = None) -> Path:
    """Return the folder of prepared data.

    Args:
        folder: The folder, ``~`` allowed; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE`` and, where
            that is unset or empty, for the user's cache folder. It need not exist.

    Raises:
        ValueError: If ``folder`` is an empty string.
        MissingExtraError: If no folder is named and platformdirs is not installed, which the extra ``data`` brings.

    Example:
        >>> cache_root("prepared").as_posix()
        'prepared'
    """
    named = _named("folder", folder, CACHE_VARIABLE)
    if named is not None:
        return named
    with needed(f"Finding your cache folder (unless {CACHE_VARIABLE} names one)"):
        import platformdirs
    return platformdirs.user_cache_path("lightning_advdrop")


def _named(argument: str, folder: str | Path | None, variable: str) -> Path | None:
    if folder == "":
        raise ValueError(f"{argument} must name a folder or be None, got '': write '.' for the current directory")
    if not isinstance(folder, (str, os.PathLike, type(None))):
        raise TypeError(f"{argument} must be a path or None, got {folder!r}")
    found = folder if folder is not None else os.environ.get(variable)
    return Path(found).expanduser() if found else None

"""Where data sets are looked for."""

import os
from pathlib import Path

DATA_ROOT_VARIABLE = "LIGHTNING_ADVDROP_DATA"
"""Environment variable that names the folder holding one sub-folder per data set."""


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder that holds one sub-folder per data set.

    Args:
        root: The folder, ``~`` allowed; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA`` and, where
            that is unset or empty, for the folder ``data`` of the current directory.

    Returns:
        The folder, which need not exist.

    Raises:
        ValueError: If ``root`` is an empty string.

    Example:
        >>> data_root("datasets").as_posix()
        'datasets'
    """
    if root == "":
        raise ValueError("root must name a folder or be None, got '': write '.' for the current directory")
    if root is None:
        root = os.environ.get(DATA_ROOT_VARIABLE) or "data"
    return Path(root).expanduser()

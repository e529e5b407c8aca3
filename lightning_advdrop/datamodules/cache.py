"""Preparing data once, in a folder that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from lightning_advdrop.datamodules.roots import cache_root


def cached(settings: Mapping[str, Any], build: Callable[[Path], None], *, folder: str | Path | None = None) -> Path:
    """Return a folder that was filled once for these settings.

    The folder is filled under a temporary name and renamed when it is whole. Of several processes that ask at the same
    time one fills it while the others wait; what a process that was killed has left is removed by the next one.

    Args:
        settings: All that the content depends on, the version of the data included: plain types that JSON can hold.
        build: Fills the empty folder that it is given.
        folder: Where such folders lie; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.

    Returns:
        The folder, to be read only. Its name is the hash of the settings.

    Raises:
        TypeError: If the settings hold something that JSON can't.
        OSError: If the folder can't be written. What ``build`` raises is passed on, and nothing is left behind.

    Example:
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for _ in range(2):
        ...         found = cached({"words": 3}, lambda path: print("built"), folder=root)
        ...     found.is_dir()
        built
        True
    """
    text = json.dumps(settings, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    root = cache_root(folder)
    target = root / name
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{name}.lock"):
        if not target.is_dir():
            _fill(target, text, build)
    return target


def _fill(target: Path, settings: str, build: Callable[[Path], None]) -> None:
    """Fill ``target`` under its lock: whatever else bears its name was left by a process that is gone."""
    for leftover in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(leftover)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        build(partial)
        (partial / "settings.json").write_text(settings, encoding="utf-8")  # for whoever finds the folder
        partial.chmod(0o755)  # temporary folders can be entered by their owner only
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

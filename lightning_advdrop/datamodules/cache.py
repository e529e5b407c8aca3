"""Preparing data once, in folders that are complete or absent."""

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
from lightning_advdrop.files import writing


def cached(settings: Mapping[str, Any], build: Callable[[Path], None], *, folder: str | Path | None = None) -> Path:
    """Return a folder of data prepared for these settings, preparing it if it does not exist.

    The folder is filled under a temporary name and renamed when it is complete. If several processes ask at the same
    time, one fills it while the others wait; the remains of a killed process are removed by the next one.

    Args:
        settings: Everything that the content depends on, in types that JSON can represent.
        build: Function that fills an empty folder.
        folder: Parent of such folders; ``None`` for the environment variable ``LIGHTNING_ADVDROP_CACHE``, else the
            user's cache folder.

    Returns:
        The folder, named by the hash of the settings; it must not be changed.

    Raises:
        TypeError: If JSON cannot represent the settings.
        OSError: If the folder cannot be written. If ``build`` raises, nothing is left behind.

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
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        held = FileLock(root / f"{name}.lock").acquire()
    with held:
        if not target.is_dir():
            _fill(target, text, build)
    return target


def _fill(target: Path, settings: str, build: Callable[[Path], None]) -> None:
    """Fill ``target`` under its lock, which makes other folders of its name remains of killed processes."""
    for leftover in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(leftover)
    with writing(target.parent):
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        build(partial)
        (partial / "settings.json").write_text(settings, encoding="utf-8")  # for users who look into the folder
        partial.chmod(0o755)  # temporary folders are private to their owner
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

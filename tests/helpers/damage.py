"""Damage to files, as disks and copies make it."""

from __future__ import annotations

import zipfile
from pathlib import Path


def flipped(content: bytes, share: float) -> bytes:
    """The content with another byte at this share of its length."""
    place = int(len(content) * share)
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def flip_a_weight(path: Path) -> None:
    """Change a byte in the middle of a checkpoint's largest tensor; the file has the size and the end of before."""
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
        content = archive.read(record)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(content, flipped(content, 0.5)))

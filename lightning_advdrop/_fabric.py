"""The one touch of Lightning Fabric, in which nothing of Lightning is imported: regularizers work without it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def fabric_backward() -> Iterator[None]:
    """A context in which gradients pass modules that Fabric has set up.

    With mixed precision such a module refuses all gradients but those that ``fabric.backward`` asks for.

    Example:
        >>> with fabric_backward():
        ...     pass
    """
    names = ("lightning.fabric.wrappers", "lightning_fabric.wrappers")
    wrappers: list[Any] = [sys.modules[name] for name in names if hasattr(sys.modules.get(name), "_in_fabric_backward")]
    before = [each._in_fabric_backward for each in wrappers]
    try:
        for each in wrappers:
            each._in_fabric_backward = True
        yield
    finally:
        for each, value in zip(wrappers, before, strict=True):
            each._in_fabric_backward = value

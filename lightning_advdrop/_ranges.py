"""Check numbers that were given as arguments."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

_RANGES: dict[str, Callable[[float], bool]] = {
    "at least 0": lambda value: value >= 0,
    "at least 1": lambda value: value >= 1,
    "above 0": lambda value: value > 0,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in (0, 1]": lambda value: 0 < value <= 1,
}
#: Only whole numbers are counted.
_COUNTS = ("at least 1",)
_OR_NONE = " or None"


def check_range(allowed: str, **values: Any) -> None:
    """Raise for a value that is no number, NaN, infinite or outside a range.

    Args:
        allowed: the range in words: ``"at least 0"``, ``"at least 1"`` (of integers), ``"above 0"``, ``"in [0, 1]"``,
            ``"in [0, 1)"`` or ``"in (0, 1]"``; `` or None`` behind it allows None.
        values: the values by the names of their arguments.

    Raises:
        ValueError: if a value is not allowed.

    Example:
        >>> check_range("above 0 or None", clip_norm=None, learning_rate=0.0)
        Traceback (most recent call last):
        ...
        ValueError: learning_rate must be above 0 or None, got 0.0.
    """
    kind = allowed.removesuffix(_OR_NONE)
    for name, value in values.items():
        if value is None and allowed.endswith(_OR_NONE):
            continue
        if not _is_inside(kind, value):
            what = "an integer of " if kind in _COUNTS else ""
            raise ValueError(f"{name} must be {what}{allowed}, got {_told(value)}.")


def _is_inside(kind: str, value: Any) -> bool:
    if isinstance(value, (str, bytes)):
        return False
    try:
        number = operator.index(value) if kind in _COUNTS else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # the last two by tensors and by large numbers
        return False
    return math.isfinite(number) and _RANGES[kind](number)


def _told(value: object) -> str:
    """Return the value for a message: in one line, which is short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}..."

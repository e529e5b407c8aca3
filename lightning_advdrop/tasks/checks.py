"""Check the settings of tasks."""

from __future__ import annotations

from collections.abc import Callable

_RANGES: dict[str, Callable[[float], bool]] = {
    "at least 0": lambda value: value >= 0,
    "at least 1": lambda value: value >= 1,
    "above 0": lambda value: value > 0,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in (0, 1]": lambda value: 0 < value <= 1,
}


def check_range(allowed: str, **values: float | None) -> None:
    """Raise for a value outside a range.

    Args:
        allowed: the range in words: ``"at least 0"``, ``"at least 1"``, ``"above 0"``, ``"in [0, 1)"`` or
            ``"in (0, 1]"``; `` or None`` behind it allows None.
        values: the values by the names of their arguments.

    Raises:
        ValueError: if a value is outside the range.

    Example:
        >>> check_range("above 0 or None", clip_norm=None, learning_rate=0.0)
        Traceback (most recent call last):
        ...
        ValueError: learning_rate must be above 0 or None, got 0.0.
    """
    inside = _RANGES[allowed.removesuffix(" or None")]
    for name, value in values.items():
        if not (allowed.endswith(" or None") if value is None else inside(value)):
            raise ValueError(f"{name} must be {allowed}, got {value}.")

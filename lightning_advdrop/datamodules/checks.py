"""Checks of arguments."""

from __future__ import annotations

MAX_SEED = 2**32 - 1
"""Largest seed of NumPy's legacy generator."""

_STAGES = ("fit", "validate", "test", "predict", None)


def check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    """Check that an argument is an integer in a range.

    Args:
        name: Name of the argument, for the message.
        value: What the user gave.
        low: Smallest value allowed.
        high: Largest value allowed; ``None`` for no bound.

    Raises:
        TypeError: If ``value`` is no ``int`` (or is a ``bool``).
        ValueError: If ``value`` is out of range.

    Example:
        >>> check_integer("batch_size", 0, low=1)
        Traceback (most recent call last):
        ...
        ValueError: batch_size must be an integer of at least 1, got 0
    """
    allowed = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def check_integers(low: int, *, optional: bool = False, **values: object) -> None:
    """Check that arguments are integers from a bound on.

    Args:
        low: Smallest value allowed.
        optional: Whether ``None`` is allowed, too.
        **values: What the user gave, by the names of the arguments.

    Raises:
        TypeError: If one is no ``int`` (or is a ``bool``).
        ValueError: If one is below ``low``.

    Example:
        >>> check_integers(1, optional=True, train_size=None, unlabelled_size=3)
    """
    for name, value in values.items():
        if not (optional and value is None):
            check_integer(name, value, low)


def check_stage(stage: str | None) -> None:
    """Check the argument of ``LightningDataModule.setup``.

    Args:
        stage: What the user gave.

    Raises:
        ValueError: If it is none of Lightning's stages, and not ``None`` either.

    Example:
        >>> check_stage("fit")
    """
    if stage not in _STAGES:
        raise ValueError(f"stage must be 'fit', 'validate', 'test', 'predict' or None, got {stage!r}")

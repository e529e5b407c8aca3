"""Checks of arguments."""

from __future__ import annotations

MAX_SEED = 2**32 - 1
"""Largest seed of NumPy's legacy generator."""

_STAGES = ("fit", "validate", "test", "predict", None)


def check_integers(low: int, high: int | None = None, *, optional: bool = False, **values: object) -> None:
    """Check that arguments are integers in a range.

    Args:
        low: Smallest value allowed.
        high: Largest value allowed; ``None`` for no bound.
        optional: Whether ``None`` is allowed, too.
        **values: What the user gave, by the names of the arguments.

    Raises:
        TypeError: If one is no ``int`` (or is a ``bool``).
        ValueError: If one is out of range.

    Example:
        >>> check_integers(1, optional=True, train_size=None, unlabelled_size=0)
        Traceback (most recent call last):
        ...
        ValueError: unlabelled_size must be an integer of at least 1, got 0
    """
    allowed = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    for name, value in values.items():
        if optional and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be {allowed}, got {value!r}")
        if value < low or (high is not None and value > high):
            raise ValueError(f"{name} must be {allowed}, got {value!r}")


def check_stage(stage: str | None) -> None:
    """Check the argument of ``LightningDataModule.setup``; raise ``ValueError`` if it is none of Lightning's stages.

    Example:
        >>> check_stage("fit")
    """
    if stage not in _STAGES:
        raise ValueError(f"stage must be 'fit', 'validate', 'test', 'predict' or None, got {stage!r}")

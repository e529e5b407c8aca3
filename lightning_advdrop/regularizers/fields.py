"""Fields of a regularizer that say which values are allowed."""

from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, TypeVar, get_args

from lightning_advdrop._documentation import with_arguments
from lightning_advdrop.functional import DivergenceName

T = TypeVar("T")
C = TypeVar("C", bound=type)
#: Gets the name of a field and its value, and raises a `ValueError` for one that is not allowed.
Check = Callable[[str, Any], None]


def checked(default: T, check: Check) -> T:
    """Make a dataclass field whose value is checked by `check_fields`.

    Args:
        default: the value if none is given.
        check: raises a `ValueError` for a value that is not allowed.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Method:
        ...     rate: float = checked(0.05, in_unit_interval)
        ...     __post_init__ = check_fields
        >>> Method(rate=1.5)
        Traceback (most recent call last):
        ValueError: rate must be in [0, 1], got 1.5.
    """
    return field(default=default, metadata={"check": check})


def fixed(value: T) -> T:
    """Make a dataclass field of one value, which is no argument: for a subclass that leaves its base no choice."""
    return field(default=value, init=False, repr=False)


def documented(dataclass: C) -> C:
    """Complete the docstring of a dataclass by what its base classes say of the arguments that it inherits."""
    dataclass.__doc__ = with_arguments(dataclass, *reversed(dataclass.__mro__[1:]))
    return dataclass


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass instance that were made by `checked`; other objects pass.

    Raises:
        ValueError: if one has a value that is not allowed.
    """
    for each in fields(instance):
        if "check" in each.metadata:
            each.metadata["check"](each.name, getattr(instance, each.name))


def in_unit_interval(name: str, value: float) -> None:
    """Allow numbers in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}.")


def above_zero(name: str, value: float) -> None:
    """Allow numbers above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}.")


def at_least_one(name: str, value: int) -> None:
    """Allow numbers from 1 on."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")


def one_of(literal: Any) -> Check:
    """Allow the values of a ``Literal``."""

    def check(name: str, value: str) -> None:
        if value not in get_args(literal):
            raise ValueError(f"{name} must be one of {', '.join(get_args(literal))}, got {value!r}.")

    return check


def compares_two(name: str, value: str, remedy: str = ", which looks at one of them only") -> None:
    """Allow the divergences that compare two predictions: all but ``ce``."""
    one_of(DivergenceName)(name, value)
    if value == "ce":
        raise ValueError(f"{name} must compare two predictions, got 'ce'{remedy}.")

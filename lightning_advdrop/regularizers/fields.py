"""Fields of a regularizer that say which values are allowed."""

from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, TypeVar, get_args

from lightning_advdrop._documentation import with_arguments
from lightning_advdrop._ranges import check_range
from lightning_advdrop._suggestions import did_you_mean
from lightning_advdrop.regularizers.comparison import OF_LABELS, DivergenceChoice

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


def inside(allowed: str) -> Check:
    """Allow the numbers of a range of `lightning_advdrop._ranges.check_range`."""
    return lambda name, value: check_range(allowed, **{name: value})


def optionally(check: Check) -> Check:
    """Make a check that None passes."""
    return lambda name, value: None if value is None else check(name, value)


in_unit_interval = inside("in [0, 1]")
above_zero = inside("above 0")
at_least_zero = inside("at least 0")
at_least_one = inside("at least 1")


def one_of(literal: Any) -> Check:
    """Allow the values of a ``Literal``."""
    allowed = get_args(literal)

    def check(name: str, value: Any) -> None:
        if value not in allowed:
            near = did_you_mean(value, allowed)
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}{near}")

    return check


def compares_two(name: str, value: str, remedy: str = ", which looks at one of them only") -> None:
    """Allow the divergences that compare two predictions: all but ``ce`` and ``bernoulli_ce``."""
    one_of(DivergenceChoice)(name, value)
    if value in OF_LABELS:
        raise ValueError(f"{name} must compare two predictions, got {value!r}{remedy}.")

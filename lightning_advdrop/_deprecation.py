"""Old names that keep working for a while, with a warning that tells the new one."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_Callable = TypeVar("_Callable", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that a name has become another one.

    Args:
        old: the old name, as the user wrote it.
        new: the name to use.
        stacklevel: how many calls up the user's line is, see `warnings.warn`.
    """
    warnings.warn(f"{old} is deprecated, use {new}.", DeprecationWarning, stacklevel=stacklevel)


def renamed_argument(old: str, new: str) -> Callable[[_Callable], _Callable]:
    """Let a function, or a class when it is made, take a keyword argument under its old name, too.

    Args:
        old: the old name of the argument.
        new: its name in the function's signature.

    Raises:
        TypeError: by the function, if it is called with both names.

    Example:
        >>> @renamed_argument("colour", "color")
        ... def paint(color="red"):
        ...     return color
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     paint(colour="blue")
        'blue'
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)  # type: ignore[misc]
            return function

        @functools.wraps(function)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                warn_renamed(f"The argument {old!r} of {function.__qualname__}", repr(new))
                if new in kwargs:
                    raise TypeError(f"{function.__qualname__} got {new!r} twice, once under its old name {old!r}.")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renamed

    return decorate


def renamed_attributes(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module in which some names have changed.

    Args:
        module: the module's ``__name__``.
        names: the new name of each old one.

    Returns:
        A function that returns what the new name stands for, and warns.

    Raises:
        AttributeError: by what is returned, for a name that is neither old nor new.

    Example:
        >>> __getattr__ = renamed_attributes("math", {"circle": "pi"})
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     __getattr__("circle")
        3.141592653589793
    """

    def getattr_renamed(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_renamed(f"{module}.{name}", f"{module}.{names[name]}")
        return getattr(sys.modules[module], names[name])

    return getattr_renamed

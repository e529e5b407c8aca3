"""Descriptions of arguments, written once where they are defined and repeated in the docstrings of what takes them."""

from __future__ import annotations

import inspect
import re

_RAISES = "Raises:\n    ValueError: if an argument is not in its range or list.\n"


def with_arguments(documented: type, *others: type) -> str:
    """Return a class's docstring with all arguments of its constructor, and what it raises, before its example.

    Args:
        documented: the class, whose docstring describes the arguments that are new or of another meaning.
        others: classes that describe the rest; of several descriptions the last counts.

    Example:
        >>> class Point:
        ...     '''A point.
        ...
        ...     Args:
        ...         x: to the right.
        ...     '''
        >>> class Disc:
        ...     '''A disc.
        ...
        ...     Args:
        ...         radius: above 0.
        ...     '''
        ...     def __init__(self, x, radius): ...
        >>> print(with_arguments(Disc, Point).partition("Raises")[0].rstrip())
        A disc.
        <BLANKLINE>
        Args:
            x: to the right.
            radius: above 0.
    """
    described = {name: entry for each in (*others, documented) for name, entry in _arguments(each).items()}
    before, example, rest = inspect.cleandoc(documented.__doc__ or "").partition("Example:\n")
    summary = before.partition("Args:\n")[0].rstrip()
    arguments = "".join(described.get(name, "") for name in inspect.signature(documented).parameters)
    return f"{summary}\n\nArgs:\n{arguments}\n{_RAISES}\n{example}{rest}"


def _arguments(documented: type) -> dict[str, str]:
    """Read the entries of the section *Args* of a class's docstring, by the names of the arguments."""
    _, _, after = inspect.cleandoc(documented.__doc__ or "").partition("\nArgs:\n")
    section = re.split(r"^\S", after, maxsplit=1, flags=re.MULTILINE)[0].rstrip() + "\n"
    entries = re.split(r"^    (?=\w+: )", section, flags=re.MULTILINE)[1:]
    return {entry.partition(":")[0]: f"    {entry}" for entry in entries}

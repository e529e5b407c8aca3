"""Match messages by what they name, so that they can be reworded without touching a test."""

import re
from collections.abc import Iterable, Sequence

import pytest


def names(*parts: object) -> str:
    r"""Build a regular expression that finds these parts in this order, whatever stands between them.

    Pass what a reader needs: the argument, what is allowed, the value it got. Add a word of the prose only where two
    messages would otherwise name the same.

    Args:
        parts: Strings, and other values as `str` shows them; give the `repr` of a string that the message quotes. A
            part that begins or ends with a letter or a digit is found as a whole word or number only.

    Example:
        >>> message = "rate must be in [0, 1], got 1.5."
        >>> bool(re.search(names("rate", "[0, 1]", 1.5), message))
        True
        >>> [bool(re.search(names(*parts), message)) for parts in (["rate", 5], ["rate", 1, 1, 1], [1.5, "rate"])]
        [False, False, False]
    """
    return "(?s)" + ".*".join(_whole(str(part)) for part in parts)


def refused(*parts: object, error: type[Exception] = ValueError) -> pytest.RaisesExc[Exception]:
    """Expect an exception whose message names these parts."""
    return pytest.raises(error, match=names(*parts))


def each_names(messages: Iterable[str], expected: Sequence[Sequence[object]]) -> bool:
    """Tell whether there are as many messages as expected, and each one names its parts.

    Example:
        >>> each_names(["no run in a", "no run in b"], [["a"], ["b"]]), each_names(["no run in a"], [["a"], ["b"]])
        (True, False)
    """
    messages = list(messages)
    return len(messages) == len(expected) and all(
        re.search(names(*parts), message) for parts, message in zip(expected, messages, strict=True)
    )


def _whole(text: str) -> str:
    """The text, not as a piece of a longer word or number."""
    before = r"(?<![\w.-])" if re.match(r"\d", text) else r"(?<!\w)" if re.match(r"\w", text) else ""
    after = r"(?!\w|\.\d)" if re.search(r"\w$", text) else ""
    return before + re.escape(text) + after

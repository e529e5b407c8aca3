"""The known word that a misspelled one is nearest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, known: Iterable[str]) -> str | None:
    """Return the known word that is nearest to one that is not known; None if none is near.

    Example:
        >>> nearest("recurent", ["recurrent", "weight"]), nearest("attention", ["recurrent", "weight"])
        ('recurrent', None)
    """
    return next(iter(difflib.get_close_matches(str(word), [*known], 1, 0.75)), None)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the nearest known word, or a full stop if none is near.

    Example:
        >>> did_you_mean("recurent", ["recurrent", "weight"])
        "; did you mean 'recurrent'?"
        >>> did_you_mean("attention", ["recurrent", "weight"])
        '.'
    """
    found = nearest(word, known)
    return "." if found is None else f"; did you mean {found!r}?"

"""Search spaces: what is tried for the arguments of a method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_advdrop.tuning.errors import TuneError

if TYPE_CHECKING:
    from optuna import Trial

Space = Mapping[str, Any]
"""By argument, a range ``{"low": ..., "high": ..., "log": ...}``, a list of values, or a mapping of named values, each
of which is a mapping of arguments that are set together."""
_RANGE = ({"low", "high"}, {"low", "high", "log"})


def check_space(name: str, space: Any) -> Space:
    """Return a search space if it is one.

    Args:
        name: how messages call it.
        space: by argument, a range, a list, or named values, see `Space`.

    Raises:
        TuneError: if an entry is none of these, or a range is empty or infinite.

    Example:
        >>> check_space("r_drop", {"rate": {"low": 0.5, "high": 0.1}})
        Traceback (most recent call last):
        ...
        lightning_advdrop.tuning.errors.TuneError: space of r_drop: rate must have low below high, both finite, got \
{'low': 0.5, 'high': 0.1}.
    """
    if not isinstance(space, Mapping):
        raise TuneError(f"space of {name} must be a mapping from arguments to ranges or lists, got {space!r}.")
    for argument, entry in space.items():
        told = f"space of {name}: {argument} must"
        if isinstance(entry, list) and entry:
            if not all(isinstance(value, (str, int, float, bool, type(None))) for value in entry):
                raise TuneError(f"{told} list texts, numbers, true, false or null, got {entry!r}.")
        elif isinstance(entry, Mapping) and set(entry) in _RANGE:
            _check_range(told, entry)
        elif not _is_named(entry):
            raise TuneError(
                f"{told} be a range {{low: ..., high: ..., log: true}}, a list of values, or named values of several "
                f"arguments, got {entry!r}."
            )
    return space


def _check_range(told: str, entry: Mapping[str, Any]) -> None:
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (low, high))
    if not numbers or not -math.inf < low < high < math.inf:
        raise TuneError(f"{told} have low below high, both finite, got {dict(entry)!r}.")
    if not isinstance(log, bool):
        raise TuneError(f"{told} have true or false as log, got {log!r}.")
    if log and low <= 0:
        raise TuneError(f"{told} have low above 0 with log: true, got {low!r}.")


def _is_named(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry) and all(isinstance(each, Mapping) for each in entry.values())


def arguments_of(space: Space) -> list[str]:
    """Return the names of the arguments that a space sets.

    Args:
        space: see `Space`.

    Example:
        >>> arguments_of({"rate": [0.1, 0.2], "search": {"top": {"search": "top", "start": "ones"}}})
        ['rate', 'search', 'start']
    """
    found: list[str] = []
    for argument, entry in space.items():
        several = isinstance(entry, Mapping) and set(entry) not in _RANGE
        found += [name for each in entry.values() for name in each] if several else [argument]
    return [*dict.fromkeys(found)]


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """Draw a value for each argument of a space.

    Args:
        trial: the trial of Optuna that draws. A range of two integers gives integers.
        space: see `Space`.

    Returns:
        The values by argument, those of named values unpacked.

    Example:
        >>> from optuna.trial import FixedTrial
        >>> space = {"rate": {"low": 0.01, "high": 0.3}, "search": {"top": {"search": "top", "start": "ones"}}}
        >>> suggest(FixedTrial({"rate": 0.1, "search": "top"}), space)
        {'rate': 0.1, 'search': 'top', 'start': 'ones'}
    """
    values: dict[str, Any] = {}
    for argument, entry in space.items():
        if isinstance(entry, list):
            values[argument] = trial.suggest_categorical(argument, entry)
        elif set(entry) in _RANGE:
            low, high, log = entry["low"], entry["high"], entry.get("log", False)
            whole = isinstance(low, int) and isinstance(high, int)
            draw: Any = trial.suggest_int if whole else trial.suggest_float
            values[argument] = draw(argument, low, high, log=log)
        else:
            values |= entry[trial.suggest_categorical(argument, list(entry))]
    return values

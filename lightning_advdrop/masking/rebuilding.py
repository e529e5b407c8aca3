"""Objects that can't be refilled: made anew from their parts, or only watched."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any


class Tuples:
    """The facet of tuples and frozen sets, made anew where a member is replaced."""

    refills, always = False, False

    def read(self, holder: Any) -> Any:
        """Return the places and the members."""
        members = list(holder)
        return range(len(members)), members

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        """Do nothing: they can't change."""

    def make(self, holder: Any, keys: Any, values: Sequence[Any]) -> Any:
        """Make one of the same type with other members."""
        if isinstance(holder, frozenset):
            return type(holder)(values)
        try:
            made: Any = tuple.__new__(type(holder), values)
        except TypeError:  # torch.return_types and other types of C
            return type(holder)(values)
        if hasattr(holder, "__dict__"):
            vars(made).update(vars(holder))
        return made

    def name(self, key: Any) -> str:
        """Return how a member is reached."""
        return f"[{key}]"


class ByReducing:
    """The facet of objects of compiled types, such as iterators: made anew as `copy` and `pickle` do.

    What can't be copied is left alone, such as locks.
    """

    refills, always = False, True

    def read(self, holder: Any) -> Any:
        """Return what makes the object and its state; no values if it can't be copied."""
        with warnings.catch_warnings():  # itertools will lose this in Python 3.14
            warnings.simplefilter("ignore")
            try:
                reduced = holder.__reduce_ex__(4)
            except Exception:  # whatever a type raises that has no copies
                reduced = None
        if not isinstance(reduced, tuple):
            return None, ()
        make, args, state, members, entries = (*reduced, None, None, None)[:5]
        return make, [args, state, list(members or ()), list(entries or ())]

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        """Do nothing: the object itself is not written to."""

    def make(self, holder: Any, keys: Any, values: Sequence[Any]) -> Any:
        """Make another one from its parts."""
        if keys is None:
            return holder
        args, state, members, entries = values
        made = keys(*args)
        if state is not None:
            made.__setstate__(state) if hasattr(made, "__setstate__") else made.__dict__.update(state)
        if members:
            made.extend(members)
        for key, value in entries:
            made[key] = value
        return made

    def name(self, key: Any) -> str:
        """Return nothing: the parts have no names."""
        return ""


class OneShot:
    """The facet of generators, which run once and can't be copied: they are watched."""

    refills, always = False, False

    def read(self, holder: Any) -> Any:
        """Return, in place of the keys, how far a generator has run."""
        frame = holder.gi_frame
        place = None if frame is None else (frame.f_lasti, {name: id(value) for name, value in frame.f_locals.items()})
        return place, ()

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        """Do nothing."""

    def name(self, key: Any) -> str:
        """Return nothing: there is nothing inside."""
        return ""


def ran_on(holder: Any, facet: Any, keys: Any) -> bool:
    """Tell whether an iterator that can't be copied has run on since its facet was read, or may have done so."""
    if isinstance(facet, OneShot):
        return bool(facet.read(holder)[0] != keys)
    return isinstance(facet, ByReducing) and keys is None and isinstance(holder, Iterator)


def made_anew(made: dict[int, Any], swaps: dict[int, Any]) -> dict[int, Any]:
    """Make those objects anew that hold swapped ones, or that each pass needs a copy of.

    Args:
        made: what a facet of this file read, by the identity of the object: holder, facet, keys and values.
        swaps: what takes the place of which object, by its identity.

    Returns:
        ``swaps`` with the new objects.
    """
    known: dict[int, Any] = {}

    def value_of(old: Any) -> Any:
        if id(old) in swaps or id(old) not in made:
            return swaps.get(id(old), old)
        if id(old) not in known:
            known[id(old)] = old
            _, facet, keys, values = made[id(old)]
            anew = [value_of(value) for value in values]
            if (facet.always and keys is not None) or any(a is not b for a, b in zip(anew, values, strict=True)):
                known[id(old)] = facet.make(old, keys, anew)
        return known[id(old)]

    found = {name: value_of(entry[0]) for name, entry in made.items()}
    return swaps | {name: value for name, value in found.items() if value is not made[name][0]}

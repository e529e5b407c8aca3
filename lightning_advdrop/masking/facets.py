"""The ways in which Python objects hold others, each with how it is read, and refilled in place."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from lightning_advdrop._torch import scripted_names
from lightning_advdrop.masking.left_out import ATOMS

_ABSENT = object()


# What an object holds: where each value is (or what else it takes to refill the object), and the values, which may hold
# others in turn and are replaced by copies where needed.
Contents = tuple[Any, Sequence[Any]]


class Facet(ABC):
    """One way in which objects of a type hold others. An object may have several: a dictionary with attributes.

    Attributes:
        refills: whether it can be refilled, else it is made anew.
    """

    refills = True

    @abstractmethod
    def read(self, holder: Any) -> Contents:
        """Return what an object holds."""

    @abstractmethod
    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        """Make an object hold something else, writing only what differs."""

    def name(self, key: Any) -> str:
        """Return how a value is reached from its holder, for messages."""
        return f"[{key!r}]"


def same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Tell whether two sequences hold the same objects, not just equal ones."""
    return len(first) == len(second) and all(map(operator.is_, first, second))


def refill(live: dict[Any, Any], keys: Sequence[Any], values: Sequence[Any]) -> None:
    """Make a dictionary hold other entries in their order, touching only those that differ.

    The methods are those of `dict`: what a subclass does at each write has happened already.
    """
    if not live and not keys:  # most of what a module holds, its hooks
        return
    kind: Any = OrderedDict if isinstance(live, OrderedDict) else dict
    if same(list(kind.values(live)), values) and same(list(kind.keys(live)), keys):
        return
    known = set(map(id, keys))
    for key in [key for key in kind.keys(live) if id(key) not in known]:
        kind.__delitem__(live, key)
    for key, value in zip(keys, values, strict=True):
        if kind.get(live, key, _ABSENT) is not value:
            kind.__setitem__(live, key, value)
    if not same(list(kind.keys(live)), keys):
        for key in keys:
            kind.__setitem__(live, key, kind.pop(live, key))


class Entries(Facet):
    """The entries of a dictionary."""

    def read(self, holder: Any) -> Contents:
        if not holder:
            return (), ()
        kind: Any = OrderedDict if isinstance(holder, OrderedDict) else dict
        return list(kind.keys(holder)), list(kind.values(holder))

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        refill(holder, keys, values)


class Attributes(Facet):
    """The attributes of an object, in its ``__dict__``."""

    def read(self, holder: Any) -> Contents:
        attributes = holder.__dict__
        return list(attributes), list(attributes.values())

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        refill(holder.__dict__, keys, values)

    def name(self, key: Any) -> str:
        return f".{key}"


class Members(Facet):
    """The members of a list, a set or a deque."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def read(self, holder: Any) -> Contents:
        members = list(self._kind.__iter__(holder))
        return range(len(members)), members

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        if same(list(self._kind.__iter__(holder)), values):
            return
        self._kind.clear(holder)
        add = {list: "extend", set: "update", deque: "extend"}[self._kind]
        getattr(self._kind, add)(holder, values)


class Named(Facet):
    """Attributes that are no entries of a ``__dict__``: slots, and the defaults and variables of a function."""

    def __init__(self, names: Sequence[str], descriptors: Sequence[Any] = ()) -> None:
        self._names = list(names)
        self._descriptors = list(descriptors) or None

    def read(self, holder: Any) -> Contents:
        return self._names, [self._value(holder, place) for place in range(len(self._names))]

    def _value(self, holder: Any, place: int) -> Any:
        try:
            if self._descriptors:
                return self._descriptors[place].__get__(holder)
            return getattr(holder, self._names[place])
        except (AttributeError, ValueError):  # an empty slot, an empty cell
            return _ABSENT

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        for place, value in enumerate(values):
            if self._value(holder, place) is not value:
                self._set(holder, place, value)

    def _set(self, holder: Any, place: int, value: Any) -> None:
        if self._descriptors:
            descriptor = self._descriptors[place]
            descriptor.__delete__(holder) if value is _ABSENT else descriptor.__set__(holder, value)
        elif value is _ABSENT:
            delattr(holder, self._names[place])
        else:
            setattr(holder, self._names[place], value)

    def name(self, key: Any) -> str:
        return f".{key}"


class Cell(Named):
    """The value of a variable of a function around others."""

    def __init__(self) -> None:
        super().__init__(["cell_contents"])

    def name(self, key: Any) -> str:
        return ""


class Fixed(Facet):
    """Objects that another one holds for good, by name."""

    def __init__(self, held: Callable[[Any], Mapping[str, Any]]) -> None:
        self._held = held

    def read(self, holder: Any) -> Contents:
        held = self._held(holder)
        return list(held), list(held.values())

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        """Do nothing."""

    def name(self, key: Any) -> str:
        return key and f".{key}"


class Globals(NamedTuple):
    """The global variables that a function names, apart from functions, classes and modules.

    Attributes:
        namespace: where they are.
        names: their names.
    """

    namespace: dict[str, Any]
    names: Sequence[str]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Globals:
        """Return those of a function, none for anything else that can be called."""
        if not isinstance(function, FunctionType):
            return cls({}, ())
        return cls(function.__globals__, function.__code__.co_names)


class Variables(Facet):
    """The values of `Globals`."""

    def read(self, holder: Any) -> Contents:
        found = {name: holder.namespace[name] for name in holder.names if name in holder.namespace}
        data = {name: value for name, value in found.items() if not isinstance(value, (FunctionType, ModuleType, type))}
        return list(data), list(data.values())

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        for name, value in zip(keys, values, strict=True):
            if holder.namespace.get(name, _ABSENT) is not value:
                holder.namespace[name] = value

    def name(self, key: Any) -> str:
        return f".{key}"


class Partial(Facet):
    """The arguments of a `functools.partial`."""

    def read(self, holder: Any) -> Contents:
        return ["func", "args", "keywords"], [holder.func, holder.args, holder.keywords]

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        if not same(self.read(holder)[1], values):
            holder.__setstate__((*values, vars(holder) or None))

    def name(self, key: Any) -> str:
        return f".{key}"


class Elements(Facet):
    """The elements of an array of Python objects."""

    def read(self, holder: Any) -> Contents:
        return range(holder.size), list(holder.ravel())

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        if not same(list(holder.ravel()), values):
            for place, value in enumerate(values):
                holder[np.unravel_index(place, holder.shape)] = value


class Bytes(Facet):
    """The content of a `bytearray`."""

    def read(self, holder: Any) -> Contents:
        return bytes(holder), ()

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        if holder != keys:
            holder[:] = keys


class Scripted(Facet):
    """The buffers and attributes of a scripted module, which are no Python objects."""

    def read(self, holder: Any) -> Contents:
        names = [name for name in scripted_names(holder) if hasattr(holder, name)]
        return names, [getattr(holder, name) for name in names]

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        for name, value in zip(keys, values, strict=True):
            setattr(holder, name, value)

    def name(self, key: Any) -> str:
        return f".{key}"


class OnClass(Facet):
    """The objects that a class of the user's holds for all its modules; which ones it holds is not restored."""

    def read(self, holder: Any) -> Contents:
        data = {
            name: value
            for name, value in vars(holder).items()
            if not (name.startswith("__") or callable(value) or hasattr(value, "__get__") or type(value) in ATOMS)
        }
        return list(data), list(data.values())

    def fill(self, holder: Any, keys: Any, values: Sequence[Any]) -> None:
        for name, value in zip(keys, values, strict=True):
            if vars(holder).get(name, _ABSENT) is not value:
                type.__setattr__(holder, name, value)

    def name(self, key: Any) -> str:
        return f".{key}"

"""Temporary attributes that copies and pickles don't see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

_ABSENT = object()
# How copy and pickle ask an object for its parts.
_REDUCE = "__reduce_ex__"


@contextmanager
def replaced(attributes: Iterable[tuple[nn.Module, str, Any]]) -> Iterator[None]:
    """Set attributes of modules within a context; copies and pickles of the modules have what was before.

    Args:
        attributes: for each attribute the module, the name, and the value in the context.

    Example:
        >>> import copy
        >>> layer = nn.Identity()
        >>> with replaced([(layer, "forward", lambda x: -x)]):
        ...     print(layer(2), copy.deepcopy(layer)(2))
        -2 2
        >>> layer(2)
        2
    """
    values: dict[int, tuple[nn.Module, dict[str, Any]]] = {}
    for module, name, value in attributes:
        values.setdefault(id(module), (module, {}))[1][name] = value
    before = []
    for module, own in values.values():
        earlier = _values(module, [*own, _REDUCE])
        before.append((module, earlier))
        _set(module, own | {_REDUCE: _reduce_as_before(module, earlier)})
    try:
        yield
    finally:
        for module, earlier in reversed(before):
            _set(module, earlier)


def _values(module: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    return {name: vars(module).get(name, _ABSENT) for name in names}


def _set(module: nn.Module, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is _ABSENT:
            vars(module).pop(name, None)
        else:
            vars(module)[name] = value


def _reduce_as_before(module: nn.Module, earlier: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Make a module's ``__reduce_ex__`` that copies and pickles it with its earlier attributes."""

    def reduce(protocol: Any) -> Any:
        now = _values(module, earlier)
        _set(module, earlier)
        try:
            parts = module.__reduce_ex__(protocol)
            # The state may be the living dictionary itself, which gets the other attributes back.
            return parts if isinstance(parts, str) else tuple(_apart(part, vars(module)) for part in parts)
        finally:
            _set(module, now)

    return reduce


def _apart(part: Any, living: dict[str, Any]) -> Any:
    """Replace the module's own dictionary in a part of what ``__reduce_ex__`` returns by a copy."""
    if part is living:
        return dict(living)
    if type(part) is tuple:  # with the members of __slots__ behind it
        return tuple(_apart(member, living) for member in part)
    return part

"""Temporary attributes that copies and pickles don't see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

_ABSENT = object()
# How copy and pickle ask an object for its parts.
_REDUCE = "__reduce_ex__"
_LAYERS = "_layers"


@contextmanager
def replaced(attributes: Iterable[tuple[nn.Module, str, Any]]) -> Iterator[None]:
    """Set attributes of modules within a context; copies and pickles of the modules have what was before.

    Contexts may overlap: they may end in any order, and the latest that is still on has its way.

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
    for module, own in values.values():
        _add(module, own)
    try:
        yield
    finally:
        for module, own in reversed(values.values()):
            _remove(module, own)


class _Layers(NamedTuple):
    """The temporary attributes of a module, and its own ones below them.

    It never changes, so that a snapshot of the module's attributes has the one that belongs to them.
    """

    earlier: Mapping[str, Any]
    layers: tuple[dict[str, Any], ...]


def _add(module: nn.Module, layer: dict[str, Any]) -> None:
    earlier, layers = _layers_of(module)
    earlier = {**earlier, **_values(module, [name for name in layer if name not in earlier])}
    _set(module, {**layer, _REDUCE: _reduce_as_before(module, _Layers(earlier, (*layers, layer)))})


def _remove(module: nn.Module, layer: dict[str, Any]) -> None:
    earlier, layers = _layers_of(module)
    layers = tuple(each for each in layers if each is not layer)
    for own in (earlier, *layers):
        _set(module, {name: value for name, value in own.items() if name in layer})
    still = {_REDUCE, *(name for each in layers for name in each)}
    left = _Layers({name: value for name, value in earlier.items() if name in still}, layers)
    _set(module, {_REDUCE: _reduce_as_before(module, left) if layers else earlier[_REDUCE]})


def _layers_of(module: nn.Module) -> _Layers:
    found: _Layers | None = getattr(vars(module).get(_REDUCE), _LAYERS, None)
    return _Layers(_values(module, [_REDUCE]), ()) if found is None else found


def _reduce_as_before(module: nn.Module, layers: _Layers) -> Callable[[Any], Any]:
    """Make a module's ``__reduce_ex__`` that copies and pickles it with its earlier attributes."""

    def reduce(protocol: Any) -> Any:
        now = _values(module, layers.earlier)
        _set(module, layers.earlier)
        try:
            parts = module.__reduce_ex__(protocol)
            # The state may be the living dictionary itself, which gets the other attributes back.
            return parts if isinstance(parts, str) else tuple(_apart(part, vars(module)) for part in parts)
        finally:
            _set(module, now)

    setattr(reduce, _LAYERS, layers)
    return reduce


def _values(module: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    return {name: vars(module).get(name, _ABSENT) for name in names}


def _set(module: nn.Module, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is _ABSENT:
            vars(module).pop(name, None)
        else:
            vars(module)[name] = value


def _apart(part: Any, living: dict[str, Any]) -> Any:
    """Replace the module's own dictionary in a part of what ``__reduce_ex__`` returns by a copy."""
    if part is living:
        return dict(living)
    if type(part) is tuple:  # with the members of __slots__ behind it
        return tuple(_apart(member, living) for member in part)
    return part

"""Tell how objects of each type hold others, so that all can be restored in place and stay themselves."""

from __future__ import annotations

import functools
import struct
from collections import OrderedDict, deque
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_advdrop.masking.facets import (
    Attributes,
    Bytes,
    Cell,
    Elements,
    Entries,
    Facet,
    Fixed,
    Globals,
    Members,
    Named,
    OnClass,
    Partial,
    Scripted,
    Variables,
)
from lightning_advdrop.masking.left_out import ATOMS, is_left_out, is_library
from lightning_advdrop.masking.own_generators import DrawsNumbers, generator_type
from lightning_advdrop.masking.rebuilding import ByReducing, OneShot, Tuples

_ELEMENTS, _ATTRIBUTES, _ON_CLASS = (Elements(),), Attributes(), OnClass()
_EXACT: dict[type, tuple[Any, ...]] = {
    MethodType: (Fixed(lambda method: {"": method.__self__, "__func__": method.__func__}),),
    BuiltinFunctionType: (Fixed(lambda method: {"": method.__self__}),),
    CellType: (Cell(),),
    FunctionType: (
        Fixed(lambda f: dict(zip(f.__code__.co_freevars, f.__closure__ or (), strict=True))),
        Named(["__defaults__", "__kwdefaults__"]),
        _ATTRIBUTES,
    ),
    GeneratorType: (OneShot(),),
    OrderedDict: (Entries(),),
    Globals: (Variables(),),
    np.random.Generator: (Fixed(lambda generator: {"bit_generator": generator.bit_generator}),),
}
_CONTAINERS: dict[type, Facet] = {
    dict: Entries(),
    list: Members(list),
    set: Members(set),
    deque: Members(deque),
    bytearray: Bytes(),
    functools.partial: Partial(),
}


def facets_of(holder: Any) -> tuple[Any, ...]:
    """Return the facets of an object: none for what can't change, or is left out by rule.

    Args:
        holder: anything; a tensor, or an array of numbers, has none.
    """
    if isinstance(holder, type):
        return () if is_library(holder) else (_ON_CLASS,)
    if isinstance(holder, np.ndarray):
        return _ELEMENTS if holder.dtype.hasobject else ()
    kind: Any = type(holder)
    return facets_of_type(kind)


def is_numbers(holder: Any) -> bool:
    """Tell whether something is an array of numbers in memory, not in a file."""
    return isinstance(holder, np.ndarray) and not holder.dtype.hasobject and not isinstance(holder, np.memmap)


@functools.cache
def is_special(kind: Any) -> bool:
    """Tell whether objects of a type need a look at each one: tensors, arrays, classes and modules."""
    return issubclass(kind, (Tensor, np.ndarray, type, nn.Module))


@functools.cache
def facets_of_type(kind: Any) -> tuple[Any, ...]:
    """Return the facets of objects of a type, other than classes and arrays."""
    if kind in _EXACT:
        return _EXACT[kind]
    if kind in ATOMS or issubclass(kind, Tensor) or is_left_out(kind):
        return ()
    if issubclass(kind, (tuple, frozenset)):
        return (Tuples(),)
    own = _own_facets(kind)
    drawing = generator_type(kind)
    if drawing is not None:
        return (DrawsNumbers(drawing), *own)
    for container, facet in _CONTAINERS.items():
        if issubclass(kind, container):
            return (facet, *own)
    return (ByReducing(),) if _has_hidden_state(kind) else own


def _slots(kind: type) -> dict[str, Any]:
    return {
        name: value
        for base in kind.__mro__
        if "__slots__" in vars(base)
        for name, value in vars(base).items()
        if isinstance(value, MemberDescriptorType)
    }


def _own_facets(kind: type) -> tuple[Any, ...]:
    """Return the facets of attributes and slots, and, for a module, of its class."""
    slots = _slots(kind)
    facets: list[Any] = [_ATTRIBUTES] if kind.__dictoffset__ else []
    if slots:
        facets.append(Named(list(slots), list(slots.values())))
    if issubclass(kind, torch.jit.ScriptModule):
        facets.append(Scripted())
    elif issubclass(kind, nn.Module):
        facets.append(Fixed(lambda module: {f"__class__.{base.__name__}": base for base in type(module).__mro__[:-1]}))
    return tuple(facets)


def _has_hidden_state(kind: type) -> bool:
    """Tell by its size whether an object holds more than its attributes and slots, in C."""
    pointers = (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0) + len(_slots(kind))
    return bool(kind.__itemsize__) or kind.__basicsize__ > object.__basicsize__ + pointers * struct.calcsize("P")

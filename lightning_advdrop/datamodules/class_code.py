"""What the code of a class does, as a hash that tells when data must be prepared anew.

The hash is of the compiled code: classes of a notebook have no source file, and neither comments nor line numbers
matter. It must be the same in each process and run, and so holds no addresses and nothing in the order of a set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cached_property, lru_cache, partial
from pathlib import PurePath
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType

_PACKAGE = __name__.partition(".")[0]
_PLAIN = (bool, int, float, complex, str, bytes, range, type(None), type(Ellipsis))
# What else is told by its attributes.
_ATTRIBUTES: Mapping[type, tuple[str, ...]] = {
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    MethodType: ("__func__",),
    cached_property: ("func",),
    partial: ("func", "args", "keywords"),
    type(lru_cache(len)): ("__wrapped__",),
    re.Pattern: ("pattern", "flags"),
    Enum: ("name", "value"),
    PurePath: ("parts",),
}


def describe_class(kind: type) -> dict[str, str]:
    """Describe a class of a user that is derived from one of this package.

    The code is that of the class and of its bases, up to those of this package, with class attributes, values in
    closures, and the functions, classes and plain constants that they use of their own top-level modules. Other modules
    and the state of other objects don't count.

    Returns:
        ``"class"``, its module and qualified name, and ``"code"``, a hash in hexadecimal; nothing for a class of this
        package. Another release of Python may compile the same code to another hash.

    Example:
        >>> class Mine:
        ...     __module__, separator = "mine", ","
        >>> before = describe_class(Mine)
        >>> Mine.separator = ";"
        >>> {name: before[name] == value for name, value in describe_class(Mine).items()}
        {'class': True, 'code': False}
        >>> describe_class(_Description)
        {}
    """
    if _top_level(kind) == _PACKAGE:
        return {}
    ours = {base for each in kind.__mro__ if _top_level(each) == _PACKAGE for base in each.__mro__}
    users = [each for each in kind.__mro__ if each not in ours and each is not object]
    description = _Description({_top_level(each) for each in users})
    code = "\n".join(description.of(each) for each in users)
    return {"class": _name(kind), "code": hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()}


class _Description:
    """Descriptions of objects that are the same in each process.

    Args:
        homes: Top-level modules whose functions and classes are described by their code, others by their names.
    """

    def __init__(self, homes: set[str]) -> None:
        self._homes = homes
        self._described: set[int] = set()  # functions and classes, which may refer to each other
        self._open: set[int] = set()  # containers, which may hold themselves

    def of(self, value: object) -> str:
        """Describe any object."""
        if type(value) in _PLAIN:
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, (FunctionType, type)):
            return self._named(value)
        if id(value) in self._open:
            return "itself"
        self._open.add(id(value))
        try:
            return f"{self.of(type(value))} {self._parts(value)}"
        finally:
            self._open.remove(id(value))

    def _parts(self, value: object) -> str:
        """Describe the content of a container or of an object; nothing of what may differ between processes."""
        if isinstance(value, (list, tuple)):
            return self._joined(self.of(each) for each in value)
        if isinstance(value, (dict, MappingProxyType)):
            return self._joined(f"{self.of(key)}: {self.of(each)}" for key, each in value.items())
        if isinstance(value, (set, frozenset)):
            return self._joined(sorted(self.of(each) for each in value))
        names = next((names for kind, names in _ATTRIBUTES.items() if isinstance(value, kind)), ())
        if dataclasses.is_dataclass(value):
            names = tuple(field.name for field in dataclasses.fields(value))
        return self._joined(f"{name}: {self.of(getattr(value, name, None))}" for name in names)

    def _named(self, value: FunctionType | type) -> str:
        """Describe a function or a class, the first time by its code."""
        name = f"{type(value).__name__} {_name(value)}"
        if id(value) in self._described:
            return name
        self._described.add(id(value))
        if isinstance(value, FunctionType):
            return f"{name} {self._function(value)}"
        return f"{name} {self._class(value)}" if _top_level(value) in self._homes else name

    def _class(self, kind: type) -> str:
        own = (f"{name}: {self.of(value)}" for name, value in sorted(vars(kind).items()) if _is_code(name, value))
        bases = (self.of(base) for base in kind.__bases__ if _top_level(base) in self._homes)
        return self._joined([*own, *bases])

    def _function(self, function: FunctionType) -> str:
        cells = (_content(cell) for cell in function.__closure__ or ())
        parts = [function.__code__, function.__defaults__, function.__kwdefaults__, *cells]
        known = function.__globals__
        # Names of attributes are among them, and do no harm.
        used = sorted({name for name in _names(function.__code__) if name in known})
        at_home = used if _top_level(function) in self._homes else []
        return self._joined([*map(self.of, parts), *(f"{name}: {self._global(known[name])}" for name in at_home)])

    def _global(self, value: object) -> str:
        if isinstance(value, (FunctionType, type)) and _top_level(value) not in self._homes:
            return f"{type(value).__name__} {_name(value)}"
        return self.of(value)

    def _code(self, code: CodeType) -> str:
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        parts = [code.co_code, code.co_names, arguments, code.co_freevars, getattr(code, "co_exceptiontable", b"")]
        return self._joined(self.of(part) for part in (*parts, code.co_consts))

    @staticmethod
    def _joined(parts: Iterable[str]) -> str:
        return f"({', '.join(parts)})"


def _module(value: object) -> str:
    """Return the name of the module that a function or class is defined in."""
    name = str(getattr(value, "__module__", None))
    # The script of a process that multiprocessing spawned.
    return "__main__" if name == "__mp_main__" else name


def _top_level(value: object) -> str:
    return _module(value).partition(".")[0]


def _name(value: FunctionType | type) -> str:
    return f"{_module(value)}.{value.__qualname__}"


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names that code uses, and the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _is_code(name: str, value: object) -> bool:
    """Tell whether an entry of a class belongs to what it does, and not to the bookkeeping of Python."""
    if name.startswith("__annotat") or name == "_abc_impl":
        return False
    is_special = name.startswith("__") and name.endswith("__")
    return not is_special or isinstance(value, (FunctionType, staticmethod, classmethod, property))

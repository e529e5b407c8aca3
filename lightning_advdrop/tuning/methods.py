"""Methods that are compared: an overlay of ``configs/methods`` each, or a file of the user's, with its search space."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml

from lightning_advdrop._suggestions import did_you_mean
from lightning_advdrop.files import TEXT_ENCODING, configs_folder
from lightning_advdrop.tuning.errors import TuneError
from lightning_advdrop.tuning.spaces import Space, arguments_of, check_space

_SPACES = Path(__file__).with_name("spaces.yaml")


@dataclass(frozen=True)
class Method:
    """A method with its search space.

    Args:
        name: how tables call it.
        regularizer: as in a configuration: a ``class_path`` with ``init_args``, a list of them, or None for plain
            training.
        space: what is tried, by argument; an argument of several regularizers is set in each of them that names it.

    Example:
        >>> method = find_method("r_drop", {})
        >>> sorted(method.space), method.with_values({"rate": 0.1})["init_args"]["rate"]
        (['divergence', 'rate', 'weight'], 0.1)
    """

    name: str
    regularizer: Any
    space: Space

    @property
    def description(self) -> str:
        """What tells it from another method of the same name: its arguments and its space."""
        return json.dumps([self.space, self.regularizer])

    def with_values(self, values: Mapping[str, Any]) -> Any:
        """Return the regularizer, as in a configuration, with other arguments.

        Args:
            values: the arguments by name.
        """
        found = copy.deepcopy(self.regularizer)
        for each in _entries(found):
            arguments, several = each.get("init_args") or {}, isinstance(found, list)
            chosen = {name: value for name, value in values.items() if not several or name in arguments}
            each["init_args"] = {**arguments, **chosen}
        return found

    def callbacks(self, values: Mapping[str, Any]) -> list[Any]:
        """Make the callbacks, for a trainer that no configuration describes.

        Args:
            values: arguments in the place of the overlay's.
        """
        return [_instantiate(each) for each in _entries(self.with_values(values))]


def _entries(regularizer: Any) -> list[Any]:
    return regularizer if isinstance(regularizer, list) else [] if regularizer is None else [regularizer]


def _instantiate(value: Any) -> Any:
    """Make the object that a ``class_path`` names, and those in its arguments."""
    if not isinstance(value, Mapping) or "class_path" not in value:
        return value
    arguments = {name: _instantiate(each) for name, each in (value.get("init_args") or {}).items()}
    return _class_of(value)(**arguments)


def _class_of(entry: Mapping[str, Any]) -> Any:
    """Import the class that a ``class_path`` names; a name alone is one of this package, as in a configuration.

    Raises:
        TuneError: if there is none.
    """
    path = str(entry["class_path"])
    try:
        return resolve_name(path if "." in path else f"lightning_advdrop.{path}")
    except (ImportError, AttributeError, ValueError) as error:
        raise TuneError(
            f"methods: class_path must name a class that can be imported, got {path!r} ({error})."
        ) from error


def find_method(name: str, spaces: Mapping[str, Any]) -> Method:
    """Find a method by the name of its overlay, or in a file.

    Args:
        name: a name below ``configs/methods``, such as ``r_drop``; or the path of an overlay, which may have a
            ``space`` beside its ``regularizer``.
        spaces: search spaces by method, whose entries replace those that come with the method.

    Raises:
        TuneError: if there is no such method, its file is no overlay, or a space is wrong.

    Example:
        >>> find_method("none", {})
        Method(name='none', regularizer=None, space={})
    """
    path, folder = Path(name), configs_folder() / "methods"
    short = path.stem if path.suffix else name
    if path.suffix not in (".yaml", ".yml"):
        known = sorted(each.relative_to(folder).with_suffix("").as_posix() for each in folder.rglob("*.yaml"))
        if name not in known:
            told = f"methods must name overlays of configs/methods or be YAML files, got {name!r}"
            raise TuneError(f"{told}{did_you_mean(name, known)}")
        path = folder / f"{name}.yaml"
    content = read_yaml("methods", path)
    if "regularizer" not in content or set(content) - {"regularizer", "space"}:
        raise TuneError(f"methods: {name} must have a regularizer, and may have a space, got {', '.join(content)}.")
    own = content.get("space", _built_in_spaces().get(path.stem, {}))
    given = spaces.get(short, {})
    space = {**check_space(short, own), **check_space(short, given)}
    if content["regularizer"] is None and space:
        raise TuneError(f"space of {short} must be empty, since it has no regularizer, got {', '.join(space)}.")
    _check_entries(short, content["regularizer"], space)
    return Method(short, content["regularizer"], space)


def _check_entries(name: str, regularizer: Any, space: Space) -> None:
    entries = _entries(regularizer)
    for each in entries:
        if not isinstance(each, Mapping) or not isinstance(each.get("init_args") or {}, Mapping):
            raise TuneError(
                f"methods: the regularizer of {name} must have a class_path and may have a mapping of init_args, got "
                f"{each!r}."
            )
    # In a list, an argument is set where it is named.
    named = sorted({argument for each in entries for argument in each.get("init_args") or {}})
    unknown = [each for each in arguments_of(space) if each not in named] if isinstance(regularizer, list) else []
    if unknown:
        told = f"space of {name} must be of arguments that its regularizers name, {', '.join(named) or 'none'}"
        raise TuneError(f"{told}; got {unknown[0]!r}{did_you_mean(unknown[0], named)}")


def find_methods(names: Sequence[str], spaces: Mapping[str, Any]) -> tuple[Method, ...]:
    """Find several methods, see `find_method`.

    Raises:
        TuneError: as `find_method`; or if there is none, one comes twice, or a space is of none of them.
    """
    found = tuple(find_method(name, spaces) for name in names)
    short = [method.name for method in found]
    if not short or len({*short}) < len(short):
        raise TuneError(f"methods must name at least one method, each of them once, got {', '.join(names) or 'none'}.")
    for name in spaces:
        if name not in short:
            raise TuneError(
                f"spaces must be of the methods {', '.join(short)}, got {name!r}{did_you_mean(name, short)}"
            )
    return found


class _Loader(yaml.SafeLoader):
    """PyYAML's loader, for which 1e-3 is a number, as it is for LightningCLI, and not a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@cache
def _built_in_spaces() -> dict[str, Any]:
    return dict(yaml.safe_load(_SPACES.read_text(encoding="utf-8")))


def read_yaml(argument: str, path: Path) -> dict[str, Any]:
    """Read a YAML file whose content is a mapping.

    Args:
        argument: how messages call what the file was given as.
        path: the file.

    Raises:
        TuneError: if it isn't one.
    """
    try:
        content = yaml.load(path.read_text(encoding=TEXT_ENCODING), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise TuneError(f"{argument} must name files in YAML, got {str(path)!r} ({told}).") from error
    if not isinstance(content, dict):
        raise TuneError(f"{argument} must name files with a mapping, got {str(path)!r} with {content!r}.")
    return content

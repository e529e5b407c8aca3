"""Describe objects in words that are the same whenever a program starts, and tell experiments apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def describe(value: Any) -> str:
    """Describe a model, data, or what makes them.

    Classes and functions by their names, modules by their layers and hyperparameters, data modules by their
    hyperparameters, texts and numbers, others as they are printed. What has no printed form but an address in memory is
    described by its class: neither the content of a loader nor the weights of a module count.

    Args:
        value: any object.

    Example:
        >>> describe(partial(nn.Linear, 3, bias=False))
        'torch.nn.modules.linear.Linear(3, bias=False)'
    """
    if isinstance(value, partial):
        given = [describe(each) for each in value.args]
        given += [f"{name}={describe(each)}" for name, each in value.keywords.items()]
        return f"{describe(value.func)}({', '.join(given)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {describe(each)}' for key, each in value.items())}}}"
    if isinstance(value, (list, tuple, set, frozenset)):
        each = [*map(describe, value)]
        # The order of a set is another one at the next start.
        return f"[{', '.join(each if isinstance(value, (list, tuple)) else sorted(each))}]"
    if isinstance(value, (LightningModule, LightningDataModule)):
        more = _ADDRESS.sub("", repr(value)) if isinstance(value, nn.Module) else describe(_simple(vars(value)))
        return f"{_name(type(value))}({describe(dict(value.hparams))}) {more}"
    if isinstance(value, (type, FunctionType)):
        return f"{_name(value)}{_constants(value)}"
    text = repr(value)
    return _name(type(value)) if _ADDRESS.search(text) else text


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _simple(attributes: Mapping[str, Any]) -> dict[str, Any]:
    public = {name: value for name, value in attributes.items() if not name.startswith("_")}
    return {name: value for name, value in public.items() if isinstance(value, (str, int, float))}


def _constants(value: type | FunctionType) -> str:
    """The names and constants of a function that has no name."""
    if isinstance(value, type) or value.__name__ != "<lambda>":
        return ""
    code = value.__code__
    return f" {[*code.co_names, *(each for each in code.co_consts if not isinstance(each, CodeType))]}"

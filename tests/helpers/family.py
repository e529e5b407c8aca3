"""Every regularizer and every callback of the package, found in it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import GenericAlias
from typing import Any

import lightning_advdrop.callbacks
import lightning_advdrop.regularizers
from lightning_advdrop.callbacks import RegularizerCallback
from lightning_advdrop.regularizers import PerturbationRegularizer, Regularizer


def _classes(package: Any, base: type[Any]) -> Iterator[type[Any]]:
    names = {
        package.__name__,
        *(f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)),
    }
    for name in sorted(names):
        for _, found in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if isinstance(found, GenericAlias):  # a class in Python 3.10
                continue
            if issubclass(found, base) and found.__module__ == name and not inspect.isabstract(found):
                yield found


REGULARIZERS: list[type[Regularizer]] = list(_classes(lightning_advdrop.regularizers, Regularizer))
CALLBACKS: dict[type[Regularizer], type[RegularizerCallback]] = {
    inspect.get_annotations(found, eval_str=True)["regularizer"]: found
    for found in _classes(lightning_advdrop.callbacks, RegularizerCallback)
    if "regularizer" in inspect.get_annotations(found)
}


def sites_of(regularizer: type[Regularizer]) -> str:
    """A kind of site that it works at in a model without an embedding."""
    return "input" if issubclass(regularizer, PerturbationRegularizer) else "recurrent"

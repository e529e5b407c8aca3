"""Log the settings of regularizers, as a configuration of the commands writes them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from lightning.pytorch import Trainer

from lightning_advdrop._lightning import trainer_callbacks
from lightning_advdrop.callbacks.pictures import is_kind_of

_PACKAGE = __name__.partition(".")[0]
_DEPRECATED = ("mask",)
_PLAIN = (str, int, float, bool, type(None))


def settings_of(made: Any) -> dict[str, Any]:
    """Return the class and the arguments of a callback or a regularizer, in plain types.

    Args:
        made: an object that keeps its arguments as attributes, or in its attribute ``regularizer``.

    Example:
        >>> from lightning_advdrop.regularizers import PiModel
        >>> settings_of(PiModel())["class_path"]
        'lightning_advdrop.regularizers.PiModel'
    """
    kind = type(made)
    names = [name for name in inspect.signature(kind).parameters if name not in _DEPRECATED]
    return {"class_path": _path(kind), "init_args": {name: _plain(_value(made, name)) for name in names}}


def send_settings(trainer: Trainer, callback: Any, kind: type) -> None:
    """Add the settings of regularizers to the configuration that Weights & Biases shows of a run.

    Args:
        trainer: the trainer.
        callback: one of its callbacks; the first of the kind sends those of all.
        kind: the class of the regularizers' callbacks.
    """
    found = [each for each in trainer_callbacks(trainer) if isinstance(each, kind)]
    if not found or callback is not found[0]:
        return
    settings = [settings_of(each) for each in found]
    for logger in trainer.loggers:
        if is_kind_of(logger, "WandbLogger"):
            logger.log_hyperparams({"regularizer": settings[0] if len(settings) == 1 else settings})


def _value(made: Any, name: str) -> Any:
    for holder, attribute in ((made, "site_specs" if name == "sites" else name), (made, name)):
        if hasattr(holder, attribute):
            return getattr(holder, attribute)
    return getattr(made.regularizer, name, None)


def _plain(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):  # a regularizer
        return settings_of(value)
    return getattr(value, "__qualname__", repr(value))


def _path(kind: type) -> str:
    """The shortest path under which a class is public."""
    package, *room = kind.__module__.split(".")[:2]
    if package != _PACKAGE:
        return f"{kind.__module__}.{kind.__qualname__}"
    public = kind.__name__ in sys.modules[package].__all__
    return ".".join([package, *([] if public else room), kind.__qualname__])

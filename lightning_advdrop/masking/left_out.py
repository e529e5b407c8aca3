"""What the restoring of a module's state leaves alone, by rule."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import re
import types
import weakref
from typing import Any

import numpy as np
import torch
from torch import nn

#: Types whose objects can't change, or are the same for a whole process.
ATOMS: frozenset[type[Any]] = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented), range, slice),
        *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format, torch.finfo, torch.iinfo),
        *(types.ModuleType, types.CodeType, types.MappingProxyType, types.GenericAlias, property),
        *(staticmethod, classmethod, types.GetSetDescriptorType, types.MemberDescriptorType),
        *(types.WrapperDescriptorType, types.MethodDescriptorType, types.MethodWrapperType),
        *(weakref.ref, weakref.ProxyType, weakref.CallableProxyType, re.Pattern, re.Match, type(functools.cache(len))),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(decimal.Decimal, fractions.Fraction, pathlib.PosixPath, pathlib.WindowsPath, np.dtype),
    }
)
_ATOMIC_BASES = (enum.Enum, BaseException, weakref.ref, np.generic, np.dtype, np.memmap)

# Objects of these packages and modules run the training, hold its data, or belong to the whole process. The packages
# are named here, not imported.
_LEFT_OUT = (
    *("torch.optim", "torch.utils.data", "torch.profiler", "torch.distributed", "torch.cuda", "torch.amp", "torch._C"),
    *("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities", "lightning_advdrop"),
    *("logging", "threading", "_thread", "multiprocessing", "concurrent", "asyncio", "socket", "io", "_io", "sqlite3"),
    *("tokenizers", "sentencepiece", "transformers.tokenization_utils_base", "datasets", "pyarrow", "h5py", "zarr"),
    *("wandb", "tensorboard", "mlflow", "comet_ml", "neptune", "ray", "optuna"),
)
_LIBRARIES = (
    "builtins",
    "torch",
    "lightning",
    "pytorch_lightning",
    "lightning_advdrop",
    "transformers",
    "torchmetrics",
)
_WALKED = (nn.Module, dict, list, set, collections.deque)


@functools.cache
def is_left_out(kind: type) -> bool:
    """Tell whether objects of a type are left alone: data sets, loggers, optimizers, the trainer and the like.

    Example:
        >>> is_left_out(torch.utils.data.Dataset), is_left_out(nn.Module)
        (True, False)
    """
    if issubclass(kind, _ATOMIC_BASES):
        return True
    if issubclass(kind, _WALKED) or issubclass(kind, torch.Generator):
        return False
    return any(_below(base.__module__, _LEFT_OUT) for base in kind.__mro__)


@functools.cache
def is_library(kind: type) -> bool:
    """Tell whether a class belongs to a library, whose classes hold no state of the user's."""
    return _below(kind.__module__, _LIBRARIES)


def _below(module: Any, names: tuple[str, ...]) -> bool:
    return isinstance(module, str) and any(module == name or module.startswith(f"{name}.") for name in names)

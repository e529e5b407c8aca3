"""What the package uses of torch's internals to see and to change how torch's functions are called.

As in `lightning_advdrop._torch`, a function names the release of torch that lacks what it needs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any

import torch

from lightning_advdrop._torch import unknown_release


def arguments_of(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], needed: str
) -> dict[str, Any]:
    """Return the arguments of a call by name, with defaults.

    Args:
        function: the function, written in Python.
        args: the call's positional arguments.
        kwargs: its keyword arguments.
        needed: the name of an argument that must be there.

    Raises:
        RuntimeError: if in this release of torch the function has no argument of the name ``needed``.

    Example:
        >>> arguments_of(torch.nn.functional.relu, (1,), {}, "inplace")
        {'input': 1, 'inplace': False}
    """
    bound = _signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    if needed not in bound.arguments:
        unknown_release(f"gives {function.__name__} no argument {needed}")
    return bound.arguments


_signature = functools.cache(inspect.signature)


def unseen_by_modes() -> AbstractContextManager[Any]:
    """Make torch calls inside the context that no function mode sees.

    Raises:
        RuntimeError: if this release of torch can't.

    Example:
        >>> with unseen_by_modes():
        ...     copy = torch.ones(2).clone()
    """
    context = getattr(torch._C, "DisableTorchFunction", None)
    if context is None:
        unknown_release("can't switch function modes off")
    unseen: AbstractContextManager[Any] = context()
    return unseen


@functools.cache
def without_override(function: FunctionType) -> FunctionType:
    """Return a function of torch's without its first look for function modes, so that a mode can see what it calls.

    Args:
        function: one of `torch.nn.functional` that is written in Python and asks ``has_torch_function``.

    Raises:
        RuntimeError: if in this release of torch it isn't, or doesn't.
    """
    code = getattr(function, "__code__", None)
    if code is None or "has_torch_function" not in code.co_names:
        unknown_release(f"looks for function modes in another way in {function.__name__}, so no mask can act within")
    names = {**function.__globals__, "has_torch_function": lambda *_: False}
    body = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    body.__kwdefaults__ = function.__kwdefaults__
    return body

"""Restore a module's buffers and attributes around another run of its forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lightning_advdrop._torch import PARTS, dictionaries_of, version_of


@dataclass(frozen=True)
class _Held:
    """A tensor that a module held, with a copy of its content."""

    tensor: Tensor
    version: int | None
    content: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> _Held:
        return cls(tensor, version_of(tensor), tensor.detach().clone())

    def value(self) -> Tensor:
        """Return a copy of the content, or the tensor itself if that has a graph and was not written to since."""
        unwritten = self.version is not None and version_of(self.tensor) == self.version
        return self.tensor if self.tensor.requires_grad and unwritten else self.content.clone()


def _of_members(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change the members of a container; return anything else as it is."""
    if type(value) is list:
        return [change(member) for member in value]
    if type(value) is dict:
        return {name: change(member) for name, member in value.items()}
    if type(value) is tuple:
        return tuple(change(member) for member in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)._make(change(member) for member in value)  # type: ignore[attr-defined]
    return value


def _hold(value: Any, held: dict[int, _Held]) -> Any:
    """Copy a value's containers, with one `_Held` in place of each tensor."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return held.setdefault(id(value), _Held.of(value))
    return _of_members(value, lambda member: _hold(member, held))


def _release(value: Any, released: dict[int, Tensor]) -> Any:
    """Undo `_hold`."""
    if isinstance(value, _Held):
        return released.setdefault(id(value), value.value())
    return _of_members(value, lambda member: _release(member, released))


def _refill(live: dict[str, Any], values: dict[str, Any]) -> None:
    """Make a module's dictionary hold other values in their order, touching only the entries that differ."""
    for name in [name for name in live if name not in values]:
        del live[name]
    for name, value in values.items():
        if name not in live or live[name] is not value:
            live[name] = value
    if list(live) != list(values):
        for name in values:
            live[name] = live.pop(name)


class ModuleState:
    """A snapshot of a module's buffers and attributes, everything but its parameters.

    A forward pass may write to these: running statistics, a carried hidden state. Run it again from the snapshot to
    get what the first run got, and keep the state as the first run left it.

    Args:
        module: the module, with all its submodules.

    Example:
        >>> import torch
        >>> norm = nn.BatchNorm1d(2)
        >>> state = ModuleState(norm)
        >>> with state.borrowed():
        ...     _ = norm(torch.randn(8, 2))
        >>> norm.num_batches_tracked.item()
        0
    """

    def __init__(self, module: nn.Module) -> None:
        held: dict[int, _Held] = {}
        self._parts = [
            (live, {name: v if name in PARTS else _hold(v, held) for name, v in live.items()})
            for part in module.modules()
            for live in dictionaries_of(part)
        ]

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Put the module into this state inside the context, and restore its present state afterwards.

        Inside, the module holds copies of the tensors and containers of the snapshot. Writing to these leaves the
        originals, and the graphs that saved them, intact.
        """
        outside = [(live, dict(live)) for live, _ in self._parts]
        released: dict[int, Tensor] = {}
        for live, state in self._parts:
            _refill(live, {name: v if name in PARTS else _release(v, released) for name, v in state.items()})
        try:
            yield
        finally:
            for live, values in outside:
                _refill(live, values)

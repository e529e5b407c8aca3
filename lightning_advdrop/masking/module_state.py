"""Keeping a module's state from changing while its forward runs once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class _Held:
    """A tensor that a module held, with its content at the time."""

    tensor: Tensor
    version: int
    content: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> _Held:
        return cls(tensor, tensor._version, tensor.detach().clone())

    def value(self) -> Tensor:
        """The tensor itself while nobody has written to it since, else a copy of what it held."""
        return self.tensor if self.tensor._version == self.version else self.content.clone()


class ModuleState:
    """What a module held at one moment, apart from its parameters: buffers and attributes.

    A forward pass may write to these (running statistics, a carried hidden state). To run it a second time, as if for
    the first, is to start from the state before the first run and to leave the state after it alone.

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
        self._parts: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for part in module.modules():
            for live in (vars(part), part._buffers):
                held = {name: _Held.of(v) if isinstance(v, Tensor) else v for name, v in live.items()}
                self._parts.append((live, held))

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """A context in which the module starts from this state, and after which it is as it was when entering.

        Tensors that were written to since are replaced by copies rather than written back, so that graphs which
        remember the originals stay valid. Buffers may be written inside the context: they are copies, too.
        """
        outside = [(live, dict(live)) for live, _ in self._parts]
        buffers = {id(live): live for live, _ in self._parts[1::2]}
        for live, held in self._parts:
            values = {name: v.value() if isinstance(v, _Held) else v for name, v in held.items()}
            if id(live) in buffers:
                values = {name: v.clone() if isinstance(v, Tensor) else v for name, v in values.items()}
            live.clear()
            live.update(values)
        try:
            yield
        finally:
            for live, values in outside:
                live.clear()
                live.update(values)

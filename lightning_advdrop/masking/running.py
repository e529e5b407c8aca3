"""Which module is running."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class RunningModules:
    """A context that knows the modules whose forward is running, by hooks that are gone when it ends.

    It sees calls of modules, not of their ``forward``.

    Args:
        outermost: what is running already when the context is entered.

    Example:
        >>> inner, seen = nn.Identity(), []
        >>> with RunningModules(nn.Module()) as running:
        ...     handle = inner.register_forward_pre_hook(lambda *_: seen.append(running.stack[-1] is inner))
        ...     _ = inner(1)
        >>> seen, len(running.stack)
        ([True], 1)
    """

    def __init__(self, outermost: nn.Module) -> None:
        self.stack = [outermost]
        self._handles: list[Any] = []

    def __enter__(self) -> RunningModules:
        self._handles = [
            register_module_forward_pre_hook(lambda module, _: self.stack.append(module)),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def _leave(self, module: nn.Module, *_: Any) -> None:
        # Modules that an exception ended before their hooks could run are left with the one around them.
        while len(self.stack) > 1 and self.stack.pop() is not module:
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

"""Track which module is running."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook


class RunningModules:
    """A context that tracks the stack of running modules, by global hooks that it removes at its end.

    It sees a module that is called, not one whose ``forward`` is called directly.

    Args:
        outermost: the module that is running when the context is entered.

    Attributes:
        stack: the running modules, the innermost one last.
        arguments: the positional arguments of each.

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
        self.arguments: list[tuple[Any, ...]] = [()]
        self._handles: list[Any] = []

    def __enter__(self) -> RunningModules:
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def _enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.stack.append(module)
        self.arguments.append(arguments)

    def _leave(self, module: nn.Module, *_: Any) -> None:
        # Also leaves the modules inside, whose hooks did not run if an exception ended them.
        while len(self.stack) > 1:
            self.arguments.pop()
            if self.stack.pop() is module:
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

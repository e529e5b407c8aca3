"""What fitting leaves on a module, for comparing it with what plain training leaves."""

from __future__ import annotations

from typing import Any

from torch import nn


def traces(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module and its parts by path, the number of their hooks, and the keys of its state."""
    found: dict[str, Any] = {"state": list(module.state_dict())}
    for path, part in module.named_modules(remove_duplicate=False):
        own = vars(part)
        hooks = {name: len(value) for name, value in own.items() if "hooks" in name and hasattr(value, "__len__")}
        found[path] = (sorted(own), hooks, repr(own.get("forward")), repr(own.get("training_step")))
    return found

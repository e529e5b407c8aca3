"""Tell where an object is held, for messages."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from torch import Tensor, nn

from lightning_advdrop.masking.left_out import ATOMS
from lightning_advdrop.masking.object_parts import facets_of

# Where a module holds its parts, which are reached as its attributes.
_PARTS = re.compile(r"\._(?:modules|buffers|parameters)\['(\w+)'\]")


def name_of(target: Any, module: nn.Module, call: Any) -> str:
    """Return how an object is reached from a module, or from the function that calls it, by the shortest way.

    Args:
        target: the object.
        module: the module, named ``self``.
        call: the function, named ``forward``.

    Example:
        >>> layer = nn.Sequential(nn.Identity())
        >>> layer[0].queue = {"items": iter([])}
        >>> name_of(layer[0].queue["items"], layer, None)
        "self.0.queue['items']"
    """
    waiting = deque([(module, "self"), (call, "forward")])
    seen: set[int] = set()
    while waiting:
        holder, name = waiting.popleft()
        if holder is target:
            return _PARTS.sub(r".\1", name)
        if id(holder) in seen or type(holder) in ATOMS or isinstance(holder, Tensor):
            continue
        seen.add(id(holder))
        for facet in facets_of(holder):
            keys, values = facet.read(holder)
            if len(values):
                places = keys if hasattr(keys, "__len__") else [""] * len(values)
                waiting.extend((value, f"{name}{facet.name(key)}") for key, value in zip(places, values, strict=True))
    return "an attribute"

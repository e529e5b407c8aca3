"""Everything that hangs on an object, as a flat table that can be compared."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: What Lightning hangs on a module for the time of a fit, and what torch's compiler notes for its own use.
_FOREIGN = {
    "_trainer",
    "_fabric",
    "_current_fx_name",
    "_results",
    "_torchdynamo_wrapper_id",
    "_dynamo_static_input_type",
}
_NOTHING = 1e-25
_ATOMS = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, torch.Size, type)


def snapshot(value: Any) -> dict[str, str]:
    """Describe a value and all that it holds, by path; the same object at two paths is named as such."""
    return dict(_Walk().walk("", value))


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """List the paths at which two snapshots differ, with what is there."""
    names = [*first, *(name for name in second if name not in first)]
    return [f"{n}: {first.get(n)} != {second.get(n)}" for n in names if first.get(n) != second.get(n)]


def generators() -> dict[str, str]:
    """Describe the global random generators."""
    return snapshot({"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()})


class _Walk:
    def __init__(self) -> None:
        self._paths: dict[int, str] = {}
        self._alive: list[Any] = []

    def walk(self, path: str, value: Any) -> list[tuple[str, str]]:
        if isinstance(value, _ATOMS):
            return [(path, repr(value))]
        if id(value) in self._paths:
            return [(path, f"the same as {self._paths[id(value)]}")]
        self._paths[id(value)] = path
        self._alive.append(value)  # an identity that is given to another object would mislead
        name, parts = self._parts(value)
        found = [(path, name)]
        for key, part in parts.items():
            if key not in _FOREIGN:
                found += self.walk(f"{path}.{key}", part)
        return found

    def _parts(self, value: Any) -> tuple[str, dict[Any, Any]]:
        name = type(value).__qualname__
        if isinstance(value, Tensor):
            return _tensor(value), _attributes(value)
        if isinstance(value, np.ndarray):
            return f"{name} {value.dtype} {value.shape} {_digest(value.tobytes())}", {}
        if isinstance(value, torch.Generator):
            return f"{name} {_digest(value.get_state().numpy().tobytes())}", {}
        if isinstance(value, Mapping):
            items = list(value.items())
            return f"{name} {[key if isinstance(key, _ATOMS) else type(key) for key, _ in items]}", {
                **{str(key) if isinstance(key, _ATOMS) else n: part for n, (key, part) in enumerate(items)},
                **_attributes(value),
            }
        if isinstance(value, (list, tuple, deque)):
            return f"{name} of {len(value)}", dict(enumerate(value)) | _attributes(value)
        if isinstance(value, (set, frozenset)):
            return f"{name} {sorted(map(repr, value))}", {}
        if callable(value) and hasattr(value, "__qualname__"):
            return f"{value.__qualname__}", {}
        return name, _reduced(value)


def _tensor(value: Tensor) -> str:
    plain = value.detach()
    if plain.is_floating_point():  # the penalty's own share, where the gradient is zero
        plain = torch.where(plain.abs() < _NOTHING, torch.zeros_like(plain), plain)
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    content = _digest(plain.contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()) if plain.numel() else ""
    shown = f" {plain.flatten().tolist()}" if plain.numel() < 3 else ""
    return f"{type(value).__name__} {value.dtype} {tuple(value.shape)} grad={value.requires_grad} {content}{shown}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _attributes(value: Any) -> dict[Any, Any]:
    return dict(getattr(value, "__dict__", {}))


def _reduced(value: Any) -> dict[Any, Any]:
    """Take an object apart as its copies are made, or by its attributes where it can't be copied so."""
    if isinstance(value, random.Random):
        return {"state": value.getstate(), **_attributes(value)}
    if isinstance(value, torch.nn.Module):  # the keys of hooks are counted up in the whole process
        return {n: list(part.values()) if "_hooks" in n else part for n, part in _attributes(value).items()}
    try:
        parts = value.__reduce_ex__(4)
    except (TypeError, AttributeError):
        return _attributes(value)
    if isinstance(parts, str):
        return {}
    arguments, state, items = parts[1], parts[2] if len(parts) > 2 else None, [_listed(part) for part in parts[3:]]
    if type(state) is dict:
        return {**state, "<items>": items}
    return {"<arguments>": arguments, "<state>": state, "<items>": items}


def _listed(part: Any) -> Any:
    """Turn the iterators among the parts into lists."""
    return list(part) if hasattr(part, "__next__") else part

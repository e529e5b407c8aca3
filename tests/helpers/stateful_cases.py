"""What modules hold, in objects of many kinds, each with a forward that changes it."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.helpers.stateful import FEATURES

Change = Callable[[Any, Tensor], Any]


@dataclasses.dataclass
class Record:
    value: Any
    steps: int = 0


class Slotted:
    __slots__ = ("value",)
    value: Any


class Labelled(dict[str, Any]):
    """A dictionary with an attribute."""

    label = 0


class Counter:
    def __init__(self) -> None:
        self.steps = 0

    def step(self, x: Tensor) -> Tensor:
        self.steps += 1
        return x + self.steps

    @functools.cached_property
    def start(self) -> Tensor:
        return torch.full((FEATURES,), float(self.steps))


def assigned(name: str, value: Callable[[], Any]) -> Callable[[Any], None]:
    return lambda net: setattr(net, name, value())


def zeros() -> Tensor:
    return torch.zeros(FEATURES)


def ordered(net: Any, x: Tensor) -> Any:
    net.held["last"] = net.held.pop("last", zeros()) + 1
    net.held.move_to_end("last", last=False)
    return x + net.held["last"]


def in_record(net: Any, x: Tensor) -> Any:
    net.held.value = net.held.value + 1
    net.held.steps += 1
    return x + net.held.value * net.held.steps


def in_slot(net: Any, x: Tensor) -> Any:
    net.held.value = getattr(net.held, "value", 0) + 1
    return x + net.held.value


def labelled(net: Any, x: Tensor) -> Any:
    net.held.label += 1
    net.held["n"] = net.held.label
    return x + net.held["n"]


def queued(net: Any, x: Tensor) -> Any:
    net.held.append(x.mean((0, 1)))
    return x + sum(net.held)


def in_array(net: Any, x: Tensor) -> Any:
    net.held[1:] += 1
    return x + torch.from_numpy(net.held.copy())


def in_object_array(net: Any, x: Tensor) -> Any:
    net.held[0] = net.held[0] + 1
    return x + net.held[0]


def in_set(net: Any, x: Tensor) -> Any:
    net.held.add(len(net.held))
    return x + len(net.held)


def in_bytes(net: Any, x: Tensor) -> Any:
    net.held[0] += 1
    return x + net.held[0]


def view(net: Any) -> None:
    net.whole = torch.zeros(4, FEATURES)
    net.row = net.whole[1]


def through_view(net: Any, x: Tensor) -> Any:
    net.row += 1
    return x + net.whole.sum(0)


def array_view(net: Any) -> None:
    net.array = np.zeros(FEATURES, np.float32)
    net.tensor = torch.from_numpy(net.array[::-1].copy())
    net.array = net.tensor.numpy()[::-1]


def through_array(net: Any, x: Tensor) -> Any:
    net.array[1:] += 1
    return x + net.tensor


def closure(net: Any) -> None:
    calls, total = 0, zeros()

    def count(x: Tensor) -> Tensor:
        nonlocal calls, total
        calls += 1
        total = total + x.mean((0, 1)).detach()
        return x + calls + total

    net.held = count


def hooked(net: Any) -> None:
    seen: list[int] = []
    net.lstm.register_forward_hook(lambda *_: seen.append(len(seen)))
    net.held = seen


def cycle(net: Any) -> None:
    net.held = {"steps": 0}
    net.held["self"] = net.held
    net.owner = [net]


def in_cycle(net: Any, x: Tensor) -> Any:
    net.owner[0].held["self"]["steps"] += 1
    return x + net.held["steps"]


def generator(make: Callable[[], Any], draw: Callable[[Any], Any]) -> tuple[Any, Change]:
    return assigned("held", make), lambda net, x: x + torch.as_tensor(draw(net.held), dtype=torch.float32)


def once(value: Callable[[], Any]) -> tuple[Any, Change]:
    return assigned("held", value), lambda net, x: x + next(net.held)


CASES: dict[str, tuple[Any, Change]] = {
    "OrderedDict": (assigned("held", lambda: collections.OrderedDict(first=zeros(), last=zeros())), ordered),
    "dataclass": (assigned("held", lambda: Record(zeros())), in_record),
    "namespace": (assigned("held", lambda: SimpleNamespace(value=zeros(), steps=0)), in_record),
    "slots": (assigned("held", Slotted), in_slot),
    "dict subclass": (assigned("held", Labelled), labelled),
    "deque": (assigned("held", lambda: collections.deque([zeros()], 3)), queued),
    "array": (assigned("held", lambda: np.zeros(FEATURES, np.float32)), in_array),
    "object array": (assigned("held", lambda: np.array([0, None], dtype=object)), in_object_array),
    "set": (assigned("held", set), in_set),
    "bytearray": (assigned("held", lambda: bytearray(3)), in_bytes),
    "view": (view, through_view),
    "view by NumPy": (array_view, through_array),
    "method": (assigned("held", lambda: Counter().step), lambda net, x: net.held(x)),
    "partial": (assigned("held", lambda: functools.partial(Counter.step, Counter())), lambda net, x: net.held(x)),
    "cached property": (assigned("held", Counter), lambda net, x: net.held.step(x) + net.held.start),
    "closure": (closure, lambda net, x: net.held(x)),
    "hook": (hooked, lambda net, x: x + len(net.held)),
    "cycle": (cycle, in_cycle),
    "module in a list": (
        assigned("held", lambda: [nn.BatchNorm1d(FEATURES, affine=False)]),
        lambda net, x: net.held[0](x.flatten(0, 1)).view_as(x) + net.held[0].running_mean,
    ),
    "torch.Generator": generator(
        lambda: torch.Generator().manual_seed(3), lambda held: torch.randn(FEATURES, generator=held)
    ),
    "np.random.Generator": generator(lambda: np.random.default_rng(3), lambda held: held.standard_normal(FEATURES)),
    "np.random.RandomState": generator(lambda: np.random.RandomState(3), lambda held: held.randn(FEATURES)),
    "random.Random": generator(lambda: random.Random(3), lambda held: held.gauss(0, 1)),
    "cycled": once(lambda: itertools.cycle([1.0, 2.0, 3.0])),
    "counted": once(itertools.count),
    "zipped": (
        assigned("held", lambda: zip(itertools.count(), iter(range(1000)), strict=False)),
        lambda net, x: x + sum(next(net.held)),
    ),
}

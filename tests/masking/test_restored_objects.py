"""Whatever a module holds, in whatever object, is as after the base pass, and other passes start where that started."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import random
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.messages import refused
from tests.helpers.stateful import FEATURES, Net, check_against_twin, inputs, recorded_base

Change = Callable[[Any, Tensor], Tensor]
SHARED = pytest.mark.parametrize("share_noise", [True, False])


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


def ordered(net: Any, x: Tensor) -> Tensor:
    net.held["last"] = net.held.pop("last", zeros()) + 1
    net.held.move_to_end("last", last=False)
    return x + net.held["last"]


def in_record(net: Any, x: Tensor) -> Tensor:
    net.held.value = net.held.value + 1
    net.held.steps += 1
    return x + net.held.value * net.held.steps


def in_slot(net: Any, x: Tensor) -> Tensor:
    net.held.value = getattr(net.held, "value", 0) + 1
    return x + net.held.value


def labelled(net: Any, x: Tensor) -> Tensor:
    net.held.label += 1
    net.held["n"] = net.held.label
    return x + net.held["n"]


def queued(net: Any, x: Tensor) -> Tensor:
    net.held.append(x.mean((0, 1)))
    return x + sum(net.held)


def in_array(net: Any, x: Tensor) -> Tensor:
    net.held[1:] += 1
    return x + torch.from_numpy(net.held.copy())


def in_object_array(net: Any, x: Tensor) -> Tensor:
    net.held[0] = net.held[0] + 1
    return x + net.held[0]


def in_set(net: Any, x: Tensor) -> Tensor:
    net.held.add(len(net.held))
    return x + len(net.held)


def in_bytes(net: Any, x: Tensor) -> Tensor:
    net.held[0] += 1
    return x + net.held[0]


def view(net: Any) -> None:
    net.whole = torch.zeros(4, FEATURES)
    net.row = net.whole[1]


def through_view(net: Any, x: Tensor) -> Tensor:
    net.row += 1
    return x + net.whole.sum(0)


def array_view(net: Any) -> None:
    net.array = np.zeros(FEATURES, np.float32)
    net.tensor = torch.from_numpy(net.array[::-1].copy())
    net.array = net.tensor.numpy()[::-1]


def through_array(net: Any, x: Tensor) -> Tensor:
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


def in_cycle(net: Any, x: Tensor) -> Tensor:
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


@SHARED
@pytest.mark.parametrize("name", CASES)
def test_what_is_held_is_restored(name: str, share_noise: bool) -> None:
    init, change = CASES[name]
    check_against_twin(lambda: Net(init, change), share_noise=share_noise)


@pytest.mark.parametrize("name", CASES)
def test_objects_stay_themselves(name: str) -> None:
    init, change = CASES[name]
    model = Net(init, change)
    x = inputs(1)[0]
    recorded, _ = recorded_base(model, lambda: model(x))
    before = {key: id(value) for key, value in vars(model).items()}
    recorded.run(lambda: model(x), {})
    assert {key: id(value) for key, value in vars(model).items()} == before


@SHARED
@pytest.mark.parametrize("kind", ["torch.Generator", "np.random.Generator", "np.random.RandomState", "random.Random"])
def test_own_generators_share_noise_or_draw_their_own(kind: str, share_noise: bool) -> None:
    """Also behind the mask; other noise is the same in all further passes."""
    init, change = CASES[kind]
    model, x = Net(init, change, lambda net, x, logits: change(net, x).mean() + logits), inputs(1)[0]
    recorded, base = recorded_base(model, lambda: model(x), share_noise=share_noise)
    first, second = (recorded.run(lambda: model(x), {}) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.allclose(first, base) == share_noise


def test_a_generator_that_others_draw_from_too_goes_on_for_them() -> None:
    shared = torch.Generator().manual_seed(3)
    model = Net(assigned("held", lambda: shared), CASES["torch.Generator"][1])
    x = inputs(1)[0]
    recorded, _ = recorded_base(model, lambda: model(x))
    state = shared.get_state()
    recorded.run(lambda: model(x), {})
    assert torch.equal(shared.get_state(), state)


class OnClass(Net):
    seen: list[int] = []  # noqa: RUF012 - what is tested
    total = torch.zeros(())


def on_class(net: Any, x: Tensor) -> Tensor:
    net.seen.append(1)
    type(net).total = net.total + len(net.seen)
    return x + net.total


def test_objects_of_the_class() -> None:
    x = inputs(1)[0]
    model = OnClass(change=on_class)
    recorded, base = recorded_base(model, lambda: model(x))
    torch.testing.assert_close(recorded.run(lambda: model(x), {}), base)
    assert (OnClass.seen, OnClass.total.item()) == ([1], 1)


class Untouchable:
    """What must not be copied, nor looked into."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError


class Data(torch.utils.data.Dataset[Tensor], Untouchable):
    """A data set, of which each item counts."""

    def __init__(self) -> None:
        self.taken = 0


def test_what_is_left_alone() -> None:
    def init(net: Any) -> None:
        net.lock, net.data, net.ref = threading.Lock(), Data(), weakref.ref(net)
        net.optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
        net.plain = Untouchable()

    def change(net: Any, x: Tensor) -> Tensor:
        with net.lock:
            net.data.taken += 1
        return x

    model, _ = check_against_twin(lambda: Net(init, change))
    assert model.data.taken == 4 * 4


def test_a_generator_function_is_refused_by_name() -> None:
    def numbers() -> Any:
        yield from itertools.count()

    model, x = (
        Net(assigned("held", lambda: {"numbers": numbers()}), lambda net, x: x + next(net.held["numbers"])),
        inputs(),
    )
    with refused("module", "self.held['numbers']", "generator", "list"):
        recorded_base(model, lambda: model(x[0]))


def test_a_generator_function_that_forward_leaves_alone_is_none_of_its_business() -> None:
    model, x = Net(assigned("held", lambda: (number for number in range(3)))), inputs(1)[0]
    next(model.held)
    recorded_base(model, lambda: model(x))
    assert next(model.held) == 1


def test_a_module_is_named_by_its_path() -> None:
    model, x = Net(), inputs(1)[0]
    model.lift.held = itertools.pairwise(range(9)) if not hasattr(itertools.pairwise, "__setstate__") else None
    model.change = lambda net, x: x + next(net.lift.held)[0]
    with refused("self.lift.held", "pairwise"):
        recorded_base(model, lambda: model(x))


@SHARED
def test_a_carried_state_with_a_graph_keeps_it_though_it_is_written_to(share_noise: bool) -> None:
    weight = nn.Parameter(torch.ones(FEATURES))

    def change(net: Any, x: Tensor) -> Tensor:
        net.held *= 2
        return x + net.held

    model, x = Net(lambda net: net.register_buffer("held", weight * 1), change), inputs(1)[0]
    recorded, base = recorded_base(model, lambda: model(x), share_noise=share_noise)
    again = recorded.run(lambda: model(x), {})
    torch.testing.assert_close(again, base)
    gradients = [torch.autograd.grad(output.sum(), weight, retain_graph=True)[0] for output in (base, again)]
    torch.testing.assert_close(*gradients)

"""Whatever a module holds, in whatever object, is as after the base pass, and other passes start where that started."""

from __future__ import annotations

import csv
import itertools
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.messages import refused
from tests.helpers.scripted import Carrying
from tests.helpers.stateful import FEATURES, Net, check_against_twin, inputs, recorded_base
from tests.helpers.stateful_cases import CASES, assigned

SHARED = pytest.mark.parametrize("share_noise", [True, False])


@SHARED
@pytest.mark.parametrize("name", CASES)
def test_what_is_held_is_restored(name: str, share_noise: bool) -> None:
    init, change = CASES[name]
    draws = "Generator" in name or "random" in name.lower()
    check_against_twin(lambda: Net(init, change), share_noise=share_noise, draws=draws)


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


def on_class(net: Any, x: Tensor) -> Any:
    net.seen.append(1)
    type(net).total = net.total + len(net.seen)
    return x + net.total


def test_objects_of_the_class() -> None:
    x = inputs(1)[0]
    model = OnClass(change=on_class)
    recorded, base = recorded_base(model, lambda: model(x))
    torch.testing.assert_close(recorded.run(lambda: model(x), {}), base)
    assert (OnClass.seen, OnClass.total.item()) == ([1], 1)


def test_what_only_a_hook_refers_to_is_of_each_pass() -> None:
    model, calls, x = Net(), list[int](), inputs(1)[0]
    model.head.register_forward_hook(lambda *_: calls.append(1))
    recorded, _ = recorded_base(model, lambda: model(x))
    recorded.run(lambda: model(x), {})
    assert len(calls) == 2


def test_hooks_that_forward_registers() -> None:
    def change(net: Any, x: Tensor) -> Any:
        net.head.register_forward_hook(lambda module, args, output: output + 1)
        return x

    model, _ = check_against_twin(lambda: Net(change=change))
    assert len(model.head._forward_hooks) == 4


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@SHARED
def test_a_scripted_part(share_noise: bool) -> None:
    def init(net: Any) -> None:
        net.held = torch.jit.script(Carrying())

    check_against_twin(lambda: Net(init, lambda net, x: net.held(x)), share_noise=share_noise)


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

    def change(net: Any, x: Tensor) -> Any:
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
    model: Any = Net(assigned("held", lambda: (number for number in range(3))))
    x = inputs(1)[0]
    next(model.held)
    recorded_base(model, lambda: model(x))
    assert next(model.held) == 1


def test_an_iterator_that_can_not_be_copied_is_named_by_its_path() -> None:
    model: Any = Net(change=lambda net, x: x + next(net.lift.held)[0])
    model.lift.held, x = csv.reader(["1", "2"]), inputs(1)[0]
    with refused("self.lift.held", "reader"):
        recorded_base(model, lambda: x + 0 * model.lstm(x)[0].sum())


@SHARED
def test_a_carried_state_with_a_graph_keeps_it_though_it_is_written_to(share_noise: bool) -> None:
    weight = nn.Parameter(torch.ones(FEATURES))

    def change(net: Any, x: Tensor) -> Any:
        net.held *= 2
        return x + net.held

    model, x = Net(lambda net: net.register_buffer("held", weight * 1), change), inputs(1)[0]
    recorded, base = recorded_base(model, lambda: model(x), share_noise=share_noise)
    again = recorded.run(lambda: model(x), {})
    torch.testing.assert_close(again, base)
    gradients = [torch.autograd.grad(output.sum(), weight, retain_graph=True)[0] for output in (base, again)]
    torch.testing.assert_close(*gradients)

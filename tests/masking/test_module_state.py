"""Borrowing a module without changing it."""

from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lightning_advdrop.masking import ModuleState
from lightning_advdrop.masking.facets import refill


class Part(nn.Module):
    counted: Tensor
    lazy: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("counted", torch.zeros(2))
        self.register_buffer("lazy", None)
        self.hidden = torch.zeros(2)
        self.steps = 0
        self.layer = nn.Linear(2, 2)


@pytest.fixture
def model() -> Any:
    return nn.ModuleDict({"part": Part(), "norm": nn.BatchNorm1d(2)})


def test_what_is_assigned_inside_is_forgotten(model: Any) -> None:
    part = model["part"]
    held = dict(vars(part)), dict(part._buffers)
    with ModuleState(model).borrowed():
        part.hidden, part.steps, part.lazy = torch.ones(2), 5, torch.ones(2)
        part.new = "new"
        part.counted = torch.ones(2)
        del part.layer.bias
    assert vars(part).keys() == held[0].keys()
    assert all(vars(part)[name] is value for name, value in held[0].items())
    assert all(part._buffers[name] is value for name, value in held[1].items())
    assert part.lazy is None


def test_buffers_written_inside_are_copies(model: Any) -> None:
    counted = model["part"].counted
    with ModuleState(model).borrowed():
        model["part"].counted += 1
        model["norm"](torch.randn(4, 2))
        assert model["part"].counted.sum() == 2
        assert model["norm"].num_batches_tracked == 1
    assert model["part"].counted is counted
    assert counted.sum() == 0
    assert model["norm"].num_batches_tracked == 0
    assert torch.equal(model["norm"].running_mean, torch.zeros(2))


@pytest.mark.parametrize("name", ["counted", "hidden"])
def test_a_borrowed_module_starts_from_the_remembered_state(model: Any, name: str) -> None:
    """Whether it was written to or assigned since; and the later state is back afterwards, the same object."""
    part = model["part"]
    state = ModuleState(model)
    getattr(part, name).add_(1)
    written = getattr(part, name)
    with state.borrowed():
        assert getattr(part, name).sum() == 0
    assert getattr(part, name) is written
    setattr(part, name, torch.full((2,), 7.0))
    part.steps = 3
    with state.borrowed():
        assert getattr(part, name).sum() == 0
        assert part.steps == 0
    assert getattr(part, name).sum() == 14
    assert part.steps == 3


def test_a_state_can_be_borrowed_twice(model: Any) -> None:
    state, part = ModuleState(model), model["part"]
    for _ in range(2):
        with state.borrowed():
            assert part.steps == 0
            assert part.counted.sum() == 0
            part.steps += 1
            part.counted += 1


def test_graphs_that_remember_a_tensor_stay_valid(model: Any) -> None:
    state, part = ModuleState(model), model["part"]
    part.hidden.add_(1)
    loss = (part.weight * part.hidden).sum()
    with state.borrowed():
        part.hidden = part.hidden + 3
        part.counted.add_(5)
    loss.backward()
    assert torch.equal(part.weight.grad, torch.ones(2))


def test_a_tensor_with_a_graph_keeps_it(model: Any) -> None:
    part = model["part"]
    part.hidden = part.weight * 2
    with ModuleState(model).borrowed():
        assert part.hidden.requires_grad
        (gradient,) = torch.autograd.grad(part.hidden.sum(), part.weight)
    assert torch.equal(gradient, torch.full((2,), 2.0))


def test_parameters_stay_themselves(model: Any) -> None:
    parameters = list(model.parameters())
    with ModuleState(model).borrowed():
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        model["part"].weight.grad = torch.ones(2)
    assert torch.equal(model["part"].weight.grad, torch.ones(2))


def test_an_exception_restores(model: Any) -> None:
    state = ModuleState(model)
    with suppress(KeyError), state.borrowed():
        model["part"].steps = 9
        raise KeyError
    assert model["part"].steps == 0


def test_shared_modules() -> None:
    shared = Part()
    model = nn.ModuleList([shared, shared, nn.Linear(2, 2)])
    with ModuleState(model).borrowed():
        shared.counted += 1
        assert shared.counted.sum() == 2
    assert shared.counted.sum() == 0


def test_a_buffer_of_two_modules_stays_one_buffer() -> None:
    first, second = Part(), Part()
    second.counted = first.counted
    with ModuleState(nn.ModuleList([first, second])).borrowed():
        first.counted += 1
        assert torch.equal(second.counted, first.counted)
    assert first.counted.sum() == 0


class Pair(NamedTuple):
    hidden: Tensor
    cell: Tensor


@pytest.mark.parametrize("make", [lambda *pair: pair, Pair, lambda *pair: [pair], lambda *pair: {"states": [(pair,)]}])
def test_tensors_in_tuples_are_copies(model: Any, make: Any) -> None:
    hidden = torch.zeros(2)
    held = model["part"].states = make(hidden, hidden)
    with ModuleState(model).borrowed():
        assert type(model["part"].states) is type(held)
        first, second = tree_leaves(model["part"].states)
        assert first is second  # one tensor stays one
        first += 1
    assert model["part"].states is held
    assert hidden.sum() == 0


@pytest.mark.parametrize("name", ["counted", "hidden"])
def test_tensors_made_in_inference_mode(model: Any, name: str) -> None:
    """Which know nothing of what is written to them; the copies can have a graph."""
    with torch.inference_mode():
        setattr(model["part"], name, torch.zeros(2))
    made = getattr(model["part"], name)
    with ModuleState(model).borrowed():
        inside = getattr(model["part"], name)
        inside += 1
        (model["part"].weight * inside).sum().backward()
    assert getattr(model["part"], name) is made
    assert made.is_inference()
    assert made.sum() == 0


class Watched(dict[str, Any]):
    """A dictionary that notes what is written to it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.written: list[str] = []

    def __setitem__(self, name: str, value: Any) -> None:
        self.written.append(name)
        super().__setitem__(name, value)


def test_what_a_subclass_does_at_each_write_is_not_done_again() -> None:
    same, live = object(), Watched({"changed": 2, "added": 3})
    live["kept"] = same
    refill(live, ["kept", "changed"], [same, 5])
    assert (list(live.items()), live.written) == ([("kept", same), ("changed", 5)], ["kept"])


def test_entries_go_back_to_their_places() -> None:
    live = {"second": 2, "third": 3}
    refill(live, ["first", "second", "third"], [1, 2, 3])
    assert list(live.items()) == [("first", 1), ("second", 2), ("third", 3)]

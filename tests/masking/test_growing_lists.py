"""Lists that passes only append to."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import ModuleState, growing_lists
from lightning_advdrop.masking.growing_lists import GrowingLists


class Gathering(nn.Module):
    def __init__(self, of: Callable[[Tensor], Any] = lambda found: found) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.outputs: list[Any] = []
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        self.outputs.append(self.of(found.detach().clone()))
        return found


def step(module: nn.Module, passes: int = 2) -> ModuleState:
    """Take a step: a pass, and others from the same state."""
    state = ModuleState(module)
    module(torch.randn(3, 2))
    state.check()
    for _ in range(passes):
        with state.borrowed():
            module(torch.randn(3, 2))
    return state


KINDS: dict[str, Callable[[Tensor], Any]] = {
    "tensors": lambda found: found,
    "dictionaries": lambda found: {"loss": found.sum(), "outputs": found, "name": "step", "number": 3},
    "pairs": lambda found: (found.sum(), found),
    "lists": lambda found: [found],
    "numbers": lambda found: found.sum().item(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_gathered_is_copied_for_a_few_steps_only(kind: str) -> None:
    module = Gathering(KINDS[kind])
    reached = []
    for steps in range(12):
        reached.append(len(step(module).tensors))
        assert len(module.outputs) == steps + 1
    assert reached[-1] == reached[-2] == reached[-3]
    assert max(reached) <= 2 + 2 * 4  # the parameters, and what a few steps gathered


def test_all_members_stay_themselves() -> None:
    module = Gathering()
    for _ in range(10):
        before = list(module.outputs)
        contents = [each.clone() for each in before]
        step(module)
        assert all(map(torch.equal, before, contents))
        assert all(first is second for first, second in zip(before, module.outputs, strict=False))


def test_a_list_that_was_cleared_is_looked_into_again_and_frees_its_memory() -> None:
    module = Gathering()
    for _ in range(8):
        step(module)
    first = weakref.ref(module.outputs[0])
    module.outputs.clear()
    gc.collect()
    assert first() is None
    assert len(step(module).tensors) == 2
    assert [len(step(module).tensors) for _ in range(5)] == [3, 4, 3, 3, 3]


def test_a_list_with_anything_that_may_change_is_never_settled() -> None:
    module = Gathering(lambda found: {"layer": nn.Linear(2, 2), "outputs": found})
    for _ in range(8):
        state = step(module)
    assert len(state.tensors) == 2 + 7 * 3


def test_a_list_that_keeps_its_length_is_never_settled() -> None:
    module = Gathering()
    module.outputs = [torch.zeros(2) for _ in range(5)]

    def forward(x: Tensor) -> Tensor:
        for each in module.outputs:
            each.add_(1)
        return x

    module.forward = forward  # type: ignore[method-assign]
    for _ in range(8):
        step(module)
    assert [each.tolist() for each in module.outputs] == [[8.0, 8.0]] * 5


class Remembering(Gathering):
    """Changes numbers beside what it gathered, in each pass."""

    def forward(self, x: Tensor) -> Tensor:
        for each in self.outputs:
            each["age"] += 1
        return super().forward(x)


def test_numbers_beside_tensors_change_once_in_each_step() -> None:
    module = Remembering(lambda found: {"outputs": found, "age": 0})
    for _ in range(10):
        step(module)
    assert [each["age"] for each in module.outputs] == list(range(9, -1, -1))


def test_a_pass_that_clears_the_list_writes_to_nothing() -> None:
    module = Gathering(lambda found: {"outputs": found})
    gather = module.forward

    def forward(x: Tensor) -> Tensor:
        if len(module.outputs) == 6:
            module.outputs.clear()
        return gather(x)

    module.forward = forward  # type: ignore[method-assign]
    lengths = []
    for _ in range(14):
        step(module)
        lengths.append(len(module.outputs))
    assert lengths == [1, 2, 3, 4, 5, 6] * 2 + [1, 2]


class WritesLate(Gathering):
    """Writes to its first output at the eighth step."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        if len(self.outputs) == 8:
            self.write(self.outputs[0])
        return found

    def write(self, first: Any) -> None:
        first += 1


def test_a_late_write_is_told_and_other_passes_do_not_repeat_it() -> None:
    module = WritesLate(lambda found: found.zero_())
    for _ in range(7):
        step(module)
    with pytest.warns(UserWarning, match=r"^self.outputs: a tensor in this list was written to, after many passes"):
        step(module)
    assert module.outputs[0].unique().tolist() == [1.0]
    assert [len(step(module).tensors) for _ in range(6)] == [2 + number for number in range(8, 14)]


def test_a_value_that_is_replaced_late_is_told() -> None:
    module = WritesLate(lambda found: {"outputs": found})
    module.write = lambda first: first.update(outputs=torch.ones(3, 2))  # type: ignore[method-assign]
    for _ in range(7):
        step(module)
    with pytest.warns(UserWarning, match=r"^self.outputs: a tensor in this list was written to"):
        step(module)


def test_a_late_write_in_another_pass_is_told() -> None:
    module = WritesLate()
    for _ in range(7):
        step(module)
    with pytest.warns(UserWarning, match=r"^self.outputs"), ModuleState(module).borrowed():
        module(torch.randn(3, 2))


def test_lists_that_are_gone_are_forgotten() -> None:
    module: Any = nn.Linear(2, 2)
    for _ in range(5):
        module.outputs = []
        GrowingLists(module).settled(module.outputs)
        assert len(growing_lists._LISTS[module]) == 1

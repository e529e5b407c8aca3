"""Attributes for a while, and copies without them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from torch import Tensor, nn

from lightning_advdrop.callbacks.replacing import replaced


class WithSlots(nn.Module):
    __slots__ = ("slot",)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.slot = 3


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


COPIES = [copy.copy, copy.deepcopy, pickled]


@pytest.mark.parametrize("again", COPIES)
@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 3), WithSlots], ids=["plain", "slots"])
def test_copies_have_what_was_before(make: Any, again: Any) -> None:
    module = make()
    module.mark = "before"
    names = set(vars(module))
    with replaced([(module, "mark", "inside"), (module, "forward", None)]), replaced([(module, "forward", len)]):
        made = again(module)
        assert (module.mark, module.forward) == ("inside", len)
    assert set(vars(made)) == set(vars(module)) == names
    assert (made.mark, module.mark) == ("before", "before")
    assert getattr(made, "slot", 3) == 3


@pytest.mark.parametrize("again", COPIES)
def test_a_copy_of_what_is_around_it(again: Any) -> None:
    inner = nn.Linear(2, 2)
    outer = nn.Sequential(inner)
    with replaced([(inner, "forward", lambda x: -x)]):
        made = again([outer, inner])
        assert again is copy.copy or made[0][0] is made[1]
    if again is not copy.copy:
        assert "forward" not in vars(made[0][0])


def test_an_exception_restores() -> None:
    module = nn.Identity()
    names = set(vars(module))
    with pytest.raises(KeyboardInterrupt), replaced([(module, "forward", None)]):
        raise KeyboardInterrupt
    assert set(vars(module)) == names


def test_a_copy_inside_the_replaced_attribute_itself() -> None:
    module, copies = nn.Identity(), []

    def forward(x: Tensor) -> Tensor:
        copies.append(copy.deepcopy(module))
        return x

    with replaced([(module, "forward", forward)]):
        module(1)
    assert "forward" not in vars(copies[0])


def test_contexts_may_end_in_any_order() -> None:
    module = nn.Identity()
    names = set(vars(module))
    first, second = (replaced([(module, "forward", each), (module, "mark", each)]) for each in (len, max))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (module.forward, module.mark) == (max, max)
    assert "forward" not in vars(copy.deepcopy(module))
    second.__exit__(None, None, None)
    assert set(vars(module)) == names

"""Handing back results."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.masking.prefix import Prefix, PrefixMismatchError, PrefixReader


def refuse() -> Any:
    pytest.fail("this call should have been handed back")


def give(value: Any) -> Callable[[], Any]:
    return lambda: value


def recorded(*, complete: bool) -> tuple[Prefix, list[Tensor]]:
    prefix, results = Prefix(), [torch.rand(2), torch.rand(2)]
    reader = prefix.reader()
    for function, result in zip((torch.sin, torch.cos), results, strict=True):
        assert reader.call(function, give(result)) is result
    reader.stop(complete=complete)
    return prefix, results


def replay(reader: PrefixReader, results: list[Tensor]) -> None:
    assert reader.call(torch.sin, refuse) is results[0]
    assert reader.call(torch.cos, refuse) is results[1]


def test_results_are_handed_back_until_the_end_of_a_complete_prefix() -> None:
    prefix, results = recorded(complete=True)
    reader = prefix.reader()
    replay(reader, results)
    assert reader.call(torch.sin, give("new")) == "new"
    assert len(prefix) == 2


def test_an_incomplete_prefix_grows() -> None:
    prefix, results = recorded(complete=False)
    reader = prefix.reader()
    replay(reader, results)
    more = torch.rand(1)
    assert reader.call(torch.tan, give(more)) is more
    reader.stop(complete=True)
    assert len(prefix) == 3
    third = prefix.reader()
    replay(third, results)
    assert third.call(torch.tan, refuse) is more
    assert third.call(torch.tan, give("new")) == "new"


def test_another_function_is_a_mismatch() -> None:
    prefix, _ = recorded(complete=True)
    with pytest.raises(PrefixMismatchError, match="sin.* was called first, then .*tan"):
        prefix.reader().call(torch.tan, refuse)


def test_nothing_is_recorded_after_the_stop() -> None:
    prefix, _ = recorded(complete=True)
    reader = Prefix().reader()
    reader.stop(complete=True)
    assert reader.call(torch.sin, give(3)) == 3
    assert len(prefix) == 2


def test_the_random_state_is_that_of_the_end_of_the_prefix() -> None:
    prefix = Prefix()
    reader = prefix.reader()
    start = torch.get_rng_state()
    reader.call(torch.rand, lambda: torch.rand(3))
    reader.stop(complete=True)
    expected = torch.rand(2)
    torch.set_rng_state(start)
    prefix.reader().call(torch.rand, refuse)
    assert torch.equal(torch.rand(2), expected)


def test_results_written_to_later_make_it_invalid() -> None:
    prefix, results = recorded(complete=True)
    assert prefix.valid
    results[1].add_(1)
    assert not prefix.valid


def test_results_written_to_before_the_stop_do_not() -> None:
    prefix = Prefix()
    reader, result = prefix.reader(), torch.rand(2)
    reader.call(torch.rand, give(result))
    reader.call(Tensor.relu_, result.relu_)
    reader.stop(complete=True)
    assert prefix.valid


def test_results_inside_containers_count_too() -> None:
    prefix = Prefix()
    reader, result = prefix.reader(), torch.rand(2)
    reader.call(torch.max, give((result, {"index": 3})))
    reader.stop(complete=True)
    assert prefix.valid
    result.zero_()
    assert not prefix.valid


def test_an_empty_prefix_is_valid_and_hands_nothing_back() -> None:
    prefix = Prefix()
    prefix.reader().stop(complete=True)
    assert prefix.valid
    assert len(prefix) == 0
    assert prefix.reader().call(torch.sin, give("new")) == "new"
    assert len(prefix) == 0


def test_an_exception_is_not_recorded() -> None:
    prefix = Prefix()
    reader = prefix.reader()
    with pytest.raises(ZeroDivisionError):
        reader.call(torch.sin, lambda: 1 / 0)
    assert len(prefix) == 0

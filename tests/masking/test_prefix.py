"""Handing back results."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.masking.prefix import Prefix, PrefixMismatchError, PrefixReader
from lightning_advdrop.nn import AWDLSTM
from tests.helpers.messages import names


class Doubled:
    """A torch function that counts how often it runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, x: Tensor, factor: float = 2.0) -> Tensor:
        self.runs += 1
        return x * factor


def recorded(*functions: Any, complete: bool) -> tuple[Prefix, list[Tensor], Tensor]:
    prefix, x = Prefix(), torch.rand(2)
    reader = PrefixReader(prefix)
    results = [reader.call(function, (x,), {}) for function in functions]
    reader.stop(complete=complete)
    return prefix, results, x


def test_results_are_handed_back_until_the_end_of_a_complete_prefix() -> None:
    first, second = Doubled(), Doubled()
    prefix, results, x = recorded(first, second, complete=True)
    reader = PrefixReader(prefix)
    assert reader.call(first, (x,), {}) is results[0]
    assert reader.call(second, (x,), {}) is results[1]
    assert reader.call(second, (x,), {}) is not results[1]
    assert (first.runs, second.runs, len(prefix)) == (1, 2, 2)


def test_without_a_prefix_nothing_is_kept() -> None:
    function, x = Doubled(), torch.rand(2)
    reader = PrefixReader(None)
    kept = weakref.ref(reader.call(function, (x,), {}))
    reader.stop(complete=True)
    assert kept() is None
    assert reader.call(function, (x,), {}).equal(2 * x)


def test_what_own_noise_is_drawn_from_is_not_kept() -> None:
    model, tokens = AWDLSTM(7, 4, 6), torch.zeros(3, 2, dtype=torch.int64)
    run = RecordedForward(model, find_sites(model, "rnns.2:weight"), share_noise=True)
    with run.first_run():
        first = model(tokens).logits
    results = run._prefix.results
    assert len(results) > 4
    assert not any(result.numel() > 1 and result.eq(1).all() for result in results)
    masks = {site: seen.mask / (1 - 0.5) for site, seen in run.observed.items() if seen.mask is not None}
    again = run.run(lambda: model(tokens).logits, masks)
    assert again.shape == first.shape


def test_an_incomplete_prefix_grows() -> None:
    first, second = Doubled(), Doubled()
    prefix, results, x = recorded(first, complete=False)
    reader = PrefixReader(prefix)
    assert reader.call(first, (x,), {}) is results[0]
    more = reader.call(second, (x,), {})
    reader.stop(complete=True)
    third = PrefixReader(prefix)
    assert third.call(first, (x,), {}) is results[0]
    assert third.call(second, (x,), {}) is more
    assert (first.runs, second.runs, len(prefix)) == (1, 1, 2)


def test_another_function_is_a_mismatch() -> None:
    prefix, _, x = recorded(torch.sin, complete=True)
    with pytest.raises(PrefixMismatchError, match=names(torch.sin, torch.tan)):
        PrefixReader(prefix).call(torch.tan, (x,), {})


@pytest.mark.parametrize(
    "other", [(torch.rand(2), 3.0), (torch.nn.Parameter(torch.rand(2)), 2.0)], ids=["number", "parameter"]
)
def test_other_arguments_are_a_mismatch(other: tuple[Any, ...]) -> None:
    prefix, function = Prefix(), Doubled()
    PrefixReader(prefix).call(function, (torch.nn.Parameter(torch.rand(2)), 2.0), {})
    prefix.stop(complete=True)
    with pytest.raises(PrefixMismatchError, match=names(function, function, "arguments")):
        PrefixReader(prefix).call(function, other, {})


def test_nothing_is_recorded_after_the_stop() -> None:
    prefix = Prefix()
    reader = PrefixReader(prefix)
    reader.stop(complete=True)
    reader.call(torch.sin, (torch.rand(2),), {})
    PrefixReader(prefix).call(torch.sin, (torch.rand(2),), {})
    assert len(prefix) == 0
    assert prefix.valid


def test_the_random_state_is_that_of_the_end_of_the_prefix() -> None:
    prefix = Prefix()
    reader = PrefixReader(prefix)
    start = torch.get_rng_state()
    reader.call(torch.rand, (3,), {})
    reader.stop(complete=True)
    expected = torch.rand(2)
    torch.set_rng_state(start)
    PrefixReader(prefix).call(torch.rand, (3,), {})
    assert torch.equal(torch.rand(2), expected)


def test_results_written_to_later_make_it_invalid() -> None:
    prefix, results, _ = recorded(torch.sin, torch.cos, complete=True)
    assert prefix.valid
    results[1].add_(1)
    assert not prefix.valid


def test_results_written_to_before_the_stop_do_not() -> None:
    prefix = Prefix()
    reader = PrefixReader(prefix)
    result = reader.call(torch.rand, (2,), {})
    assert reader.call(Tensor.relu_, (result,), {}) is result
    reader.stop(complete=True)
    assert prefix.valid
    assert len(prefix) == 2


def test_results_inside_containers_count_too() -> None:
    prefix = Prefix()
    reader = PrefixReader(prefix)
    values, _ = reader.call(torch.max, (torch.rand(2, 2), 0), {})
    reader.stop(complete=True)
    assert prefix.valid
    values.zero_()
    assert not prefix.valid


def test_it_ends_before_a_call_that_returns_nothing() -> None:
    prefix = Prefix()
    reader = PrefixReader(prefix)
    reader.call(torch.rand, (2,), {})
    with torch.no_grad():
        reader.call(torch._C._set_grad_enabled, (False,), {})
        reader.call(torch.rand, (2,), {})
    assert len(prefix) == 1


def fill(target: Tensor, inplace: bool = True) -> Tensor:
    """Random in place, without saying so by its name."""
    return target.normal_()


@pytest.mark.parametrize(("function", "kwargs"), [(Tensor.normal_, {}), (fill, {"inplace": True})])
def test_it_ends_before_a_call_that_writes_to_a_tensor_from_outside(function: Any, kwargs: dict[str, Any]) -> None:
    prefix, buffer = Prefix(), torch.zeros(3)
    reader = PrefixReader(prefix)
    reader.call(torch.rand, (2,), {})
    reader.call(function, (buffer,), kwargs)
    drawn = buffer.clone()
    assert len(prefix) == 1
    again = PrefixReader(prefix)  # at its end, the random state is that before the call that wrote
    again.call(torch.rand, (2,), {})
    again.call(function, (buffer,), kwargs)
    assert torch.equal(buffer, drawn)


@pytest.mark.parametrize("written", ["buffer", "view"])
def test_views_of_what_is_written_to_are_of_no_use(written: str) -> None:
    """A view that was handed back would be one of the tensor that was there in the first run."""
    prefix, buffer = Prefix(), torch.zeros(3)
    reader = PrefixReader(prefix)
    view = reader.call(Tensor.__getitem__, (buffer, slice(0, 2)), {})
    reader.call(Tensor.add_, (view if written == "view" else buffer, 1), {})
    other = torch.zeros(3)
    again = PrefixReader(prefix)
    assert again.call(Tensor.__getitem__, (other, slice(0, 2)), {})._base is other


def test_a_view_of_what_a_call_made_itself_belongs_to_it() -> None:
    prefix, layer = Prefix(), torch.nn.Linear(3, 3)
    reader = PrefixReader(prefix)
    result = reader.call(layer, (torch.rand(2, 2, 3),), {})
    assert result._base is not None
    reader.call(Tensor.mul_, (result, 2), {})
    reader.stop(complete=True)
    assert len(prefix) == 2
    assert prefix.valid


@pytest.mark.parametrize(
    "arguments",
    [
        ((slice(0, 3), 1), (slice(0, 2), 1)),
        ((slice(None), [0, 1]), (slice(None), [0, 2])),
        ((torch.float32,), (torch.float64,)),
        ((None,), (0,)),
    ],
)
def test_slices_lists_and_types_are_compared(arguments: tuple[Any, Any]) -> None:
    def function(*_: Any) -> Tensor:
        return torch.rand(2)

    first, other = arguments
    prefix = Prefix()
    result = PrefixReader(prefix).call(function, (first,), {})
    prefix.stop(complete=True)
    assert PrefixReader(prefix).call(function, (first,), {}) is result
    with pytest.raises(PrefixMismatchError, match=names(function, function, "arguments")):
        PrefixReader(prefix).call(function, (other,), {})


def test_an_exception_is_not_recorded() -> None:
    prefix = Prefix()
    reader = PrefixReader(prefix)
    with pytest.raises(RuntimeError, match="size"):
        reader.call(torch.add, (torch.rand(2), torch.rand(3)), {})
    assert len(prefix) == 0

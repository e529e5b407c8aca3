"""Arguments that forward changes: every further pass gets them as they were, and they are as after the first one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.regularizers import PseudoEnsemble
from tests.helpers.messages import refused
from tests.helpers.stateful import FEATURES, Net, check_against_twin, inputs

SHARED = pytest.mark.parametrize("share_noise", [True, False])


def divided(net: Any, x: Tensor) -> Any:
    x /= 2
    return x


def shifted(net: Any, x: Tensor) -> Any:
    x[:, 0] += 1
    return x


def through_numpy(net: Any, x: Tensor) -> Any:
    x.numpy()[...] += 1
    return x


def through_data(net: Any, x: Tensor) -> Any:
    lifted: Tensor = net.lift(x)
    x.data.add_(1)
    return lifted


def view_before(net: Any, x: Tensor) -> Any:
    view = x.view(-1, FEATURES)
    x.numpy()[...] += 1
    lifted: Tensor = net.lift(view.view_as(x))
    return lifted


@SHARED
@pytest.mark.parametrize("change", [divided, shifted, through_numpy, through_data, view_before])
def test_a_tensor_that_is_written_to(change: Any, share_noise: bool) -> None:
    check_against_twin(lambda: Net(change=change), share_noise=share_noise)


@SHARED
@pytest.mark.parametrize("change", [divided, shifted, through_numpy])
def test_a_tensor_that_is_written_to_behind_the_mask(change: Any, share_noise: bool) -> None:
    def after(net: Any, x: Tensor, logits: Tensor) -> Any:
        return logits + change(net, x).mean()

    # The masked layer has saved its input for the backward pass, so it gets another tensor.
    check_against_twin(lambda: Net(change=lambda net, x: x * 1, after=after), share_noise=share_noise)


class Takes(nn.Module):
    """Gets its input by ``take``."""

    def __init__(self, take: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.lstm, self.head, self.take = nn.LSTM(FEATURES, 4), nn.Linear(4, 2), take

    def forward(self, given: Any) -> Tensor:
        logits: Tensor = self.head(self.lstm(self.take(given))[0][-1])
        return logits


def popped(batch: dict[str, Any]) -> Any:
    x: Tensor = batch.pop("x")
    batch["parts"].append(batch["parts"][0].pop())
    return x + batch["parts"][-1]


def next_of(items: Iterator[Tensor]) -> Any:
    return next(items) + next(items)


GIVEN: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor], Callable[[Any], Any]]] = {
    "batch": (lambda: {"x": inputs(1)[0], "parts": [[1.0, 2.0]]}, popped, lambda batch: (list(batch), batch["parts"])),
    "iterator": (lambda: iter(inputs(4)), next_of, lambda items: len(list(items))),
    "zip": (lambda: zip(inputs(4), strict=True), lambda items: next(items)[0] + next(items)[0], lambda z: len(list(z))),
    "tuple": (lambda: (inputs(1)[0], [1.0]), lambda pair: divided(None, pair[0]) + pair[1].pop(), lambda pair: pair[1]),
}


@SHARED
@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("by", ["partial", "closure"])
def test_containers_and_iterators(name: str, by: str, share_noise: bool) -> None:
    make, take, left = GIVEN[name]
    model, given = Takes(take), make()
    expected = make()
    plain = model(expected)
    forward: Any = functools.partial(model, given) if by == "partial" else lambda: model(given)
    recorded = RecordedForward(model, find_sites(model, "recurrent"), share_noise=share_noise)
    with recorded.first_run(forward):
        base = forward()
    recorded.draw_noise(1)
    for _ in range(3):
        torch.testing.assert_close(recorded.run(forward, {}), base)
    assert torch.equal(base, plain)
    assert left(given) == left(expected)


def test_an_argument_with_a_graph_keeps_it() -> None:
    """What is written in place is written to a copy, which leads back to the same graph."""
    weight = torch.ones(FEATURES, requires_grad=True)
    model = Takes(lambda x: x.mul_(2))
    x = inputs(1)[0] * weight
    forward = functools.partial(model, x)
    recorded = RecordedForward(model, find_sites(model, "recurrent"), share_noise=True)
    with recorded.first_run(forward):
        base = forward()
    again = recorded.run(forward, {})
    torch.testing.assert_close(again, base)
    gradients = [torch.autograd.grad(output.sum(), weight, retain_graph=True)[0] for output in (base, again)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("by", ["partial", "closure"])
def test_a_generator_is_refused_by_name(by: str) -> None:
    model, given = Takes(next), (x for x in inputs(4))
    forward: Any = functools.partial(model, given) if by == "partial" else lambda: model(given)
    recorded = RecordedForward(model, find_sites(model, "recurrent"), share_noise=True)
    name = "forward.args[0]" if by == "partial" else "forward.given"
    with refused("module", name, "generator"), recorded.first_run(forward):
        forward()


@pytest.mark.parametrize("change", [divided, through_numpy])
def test_a_regularizer_that_is_called(change: Any) -> None:
    """The penalty of two passes without masks is 0, and the input is as after one."""
    model, x = Net(change=change), inputs(1)[0]
    expected = change(None, x.clone())
    base, penalty = PseudoEnsemble(rate=0.0)(lambda: model(x), model, sites="recurrent")
    assert torch.equal(x, expected)
    assert torch.equal(base, model(inputs(1)[0]))
    assert float(penalty.detach()) == pytest.approx(0, abs=1e-6)


GLOBAL = torch.ones(5, 2, FEATURES)


def test_a_global_variable_that_the_function_names() -> None:
    model = Net(change=divided)
    base, penalty = PseudoEnsemble(rate=0.0)(lambda: model(GLOBAL), model, sites="recurrent")
    assert torch.equal(GLOBAL, torch.full((5, 2, FEATURES), 0.5))
    assert torch.equal(base, model(torch.ones(5, 2, FEATURES)))
    assert float(penalty.detach()) == pytest.approx(0, abs=1e-6)

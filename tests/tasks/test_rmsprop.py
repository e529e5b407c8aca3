"""TensorFlow's RMSprop: its steps are those of the formula, and its state can be resumed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.tasks import RMSpropTF
from tests.helpers.messages import refused
from tests.helpers.reference_rmsprop import rmsprop

STEPS = 60


def gradients() -> Tensor:
    """Of five weights: ordinary ones, tiny ones, zeros, and some in between; ``(steps, 5)``."""
    torch.manual_seed(0)
    return torch.randn(STEPS, 5, dtype=torch.float64) * torch.tensor([1.0, 1e-6, 0.0, 1e-3, 50.0], dtype=torch.float64)


def stepped(optimizer: torch.optim.Optimizer, weight: nn.Parameter, of: Tensor) -> Tensor:
    """The weight after each step, ``(steps, 5)``."""
    found = []
    for gradient in of:
        weight.grad = gradient.clone()
        optimizer.step()
        found.append(weight.detach().clone())
    return torch.stack(found)


@pytest.mark.parametrize("settings", [{"lr": 1e-3, "alpha": 0.5}, {"lr": 0.1, "alpha": 0.9, "eps": 1e-3}])
def test_the_steps_are_those_of_the_formula(settings: dict[str, Any]) -> None:
    weight = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))
    begin, drawn = weight.tolist(), gradients()
    found = stepped(RMSpropTF([weight], **settings), weight, drawn)
    for index, start in enumerate(begin):
        expected = rmsprop(
            start, drawn[:, index].tolist(), settings["lr"], settings["alpha"], settings.get("eps", 1e-10)
        )
        torch.testing.assert_close(found[:, index], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14)


def test_first_steps_by_hand() -> None:
    """A gradient of 1e-6: the mean square is 1/2, then 1/4; torch's own RMSprop steps by the whole rate at once."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    constant = torch.full((2, 1), 1e-6, dtype=torch.float64)
    found = stepped(RMSpropTF([weight], lr=1.0, alpha=0.5), weight, constant)
    assert found.flatten().tolist() == pytest.approx([-1.41421356e-6, -3.41421356e-6], rel=1e-6)
    other = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    theirs = stepped(torch.optim.RMSprop([other], lr=1.0, alpha=0.5), other, constant)
    assert theirs[0].item() < -1


def test_an_epsilon_inside_the_root_damps_tiny_gradients_for_good() -> None:
    """Far below the root of 1e-10, a step is ``lr * g / 1e-5``, however many there have been."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    found = stepped(RMSpropTF([weight], lr=1.0, alpha=0.5), weight, torch.full((200, 1), 1e-8, dtype=torch.float64))
    assert (found[-2] - found[-1]).item() == pytest.approx(1e-3, rel=1e-5)


def test_weights_without_a_gradient_stay_and_a_closure_is_run() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups: list[dict[str, Any]] = [{"params": [used], "lr": 0.5}, {"params": [unused]}]
    optimizer = RMSpropTF(groups)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    assert optimizer.step(closure).item() == 2
    # The gradient is 2, the mean square 0.9 + 0.1 * 4.
    torch.testing.assert_close(used.detach(), torch.full((2,), 1 - 0.5 * 2 / 1.3**0.5))
    assert unused.detach().eq(1).all()
    assert set(optimizer.state) == {used}


def test_a_resumed_optimizer_goes_on_to_the_bit() -> None:
    drawn = gradients()
    whole, half = (nn.Parameter(torch.zeros(5, dtype=torch.float64)) for _ in range(2))
    expected = stepped(RMSpropTF([whole], alpha=0.5), whole, drawn)
    first = RMSpropTF([half], alpha=0.5)
    stepped(first, half, drawn[:20])
    resumed = RMSpropTF([half])
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(stepped(resumed, half, drawn[20:]), expected[20:])


def test_a_state_of_torchs_rmsprop_can_be_resumed() -> None:
    weight = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    before = torch.optim.RMSprop([weight], lr=1e-3, alpha=0.5)
    stepped(before, weight, gradients()[:3])
    square = before.state[weight]["square_avg"].clone()
    after = RMSpropTF([weight])
    after.load_state_dict(before.state_dict())
    stepped(after, weight, torch.ones(1, 5, dtype=torch.float64))
    torch.testing.assert_close(after.state[weight]["square_avg"], 0.5 * square + 0.5)


@pytest.mark.parametrize(("name", "value"), [("lr", 0.0), ("alpha", 1.0), ("eps", 0.0)])
def test_arguments_are_checked(name: str, value: float) -> None:
    with refused(name, value):
        RMSpropTF([nn.Parameter(torch.zeros(1))], **{name: value})

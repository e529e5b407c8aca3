"""Forwards for which handing back earlier results could go wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import RecordedForward, find_sites

BATCH, STEPS = 4, 6
SHARED = pytest.mark.parametrize("share_noise", [True, False])


class Base(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.lstm, self.out = nn.LSTM(3, 5), nn.Linear(5, 2)
        self.register_buffer("mean", torch.zeros(3))

    def last(self, x: Tensor) -> Tensor:
        """The LSTM's last output, ``(B, 5)``."""
        output: Tensor = self.lstm(x)[0][-1]
        return output

    def rest(self, x: Tensor) -> Tensor:
        """The LSTM and what comes after it."""
        logits: Tensor = self.out(self.last(x))
        return logits


Forward = Callable[[Base, Tensor], Tensor]


class Runs(NamedTuple):
    """The input of a forward, its base output, those of further runs under masks of ones, and these masks."""

    x: Tensor
    base: Tensor
    others: list[Tensor]
    masks: list[Tensor]


def runs(
    model: Base,
    forward: Forward,
    share_noise: bool,
    count: int = 3,
    check: Callable[[Tensor, Tensor], None] = lambda *_: None,
) -> Runs:
    """Calls ``check`` with the input and the output after each further run."""
    x = torch.randn(STEPS, BATCH, 3)
    recorded = RecordedForward(model, find_sites(model), share_noise=share_noise)
    with recorded.first_run():
        base = forward(model, x)
    recorded.draw_noise(3)
    masks = {site: site.ones(BATCH).requires_grad_() for site in recorded.sites}
    others = []
    for _ in range(count):
        others.append(recorded.run(lambda: forward(model, x), masks))
        check(x, others[-1])
    return Runs(x, base, others, list(masks.values()))


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def written_afterwards(model: Base, x: Tensor) -> Tensor:
    total = x.new_zeros(BATCH, 5)
    total += model.last(x)
    logits: Tensor = model.out(total)
    return logits


def view_written_afterwards(model: Base, x: Tensor) -> Tensor:
    total = x.new_zeros(2, BATCH, 5)
    last = model.last(x)
    total[1].add_(last)
    logits: Tensor = model.out(total.sum(0))
    return logits


def written_before_the_mask(model: Base, x: Tensor) -> Tensor:
    hidden = model.first(x)
    hidden += x
    hidden[0] = 1.0
    return model.rest(hidden)


def buffer_written_before_the_mask_and_read_after_it(model: Base, x: Tensor) -> Tensor:
    """As running statistics are that standardise the input, and scale the output back."""
    model.mean.mul_(0.9).add_(x.mean((0, 1)), alpha=0.1)
    return model.rest(x - model.mean) + model.mean.sum() * 10


def no_gradients_before_the_mask(model: Base, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = model.first(x)
    return model.rest(x)


def no_gradients_around_the_mask(model: Base, x: Tensor) -> Tensor:
    """``torch.no_grad`` begins before the mask acts and must still be on where it acts."""
    with torch.no_grad():
        last = model.last(model.first(x))
    logits: Tensor = model.out(last)
    return logits


@SHARED
@pytest.mark.parametrize(
    "forward",
    [
        written_afterwards,
        view_written_afterwards,
        written_before_the_mask,
        buffer_written_before_the_mask_and_read_after_it,
        no_gradients_before_the_mask,
        no_gradients_around_the_mask,
    ],
)
def test_masks_of_ones_give_the_base_output(forward: Forward, share_noise: bool) -> None:
    model = Base()
    found = runs(model, forward, share_noise)
    weights = [model.lstm.get_parameter("weight_hh_l0"), model.out.weight]
    for output in found.others:
        assert_close(output, found.base)
        reached = torch.autograd.grad(output.sum(), [*weights, *found.masks], materialize_grads=True)
        around = forward is no_gradients_around_the_mask
        assert [bool(gradient.abs().sum() > 0) for gradient in reached] == [not around, True, not around]


@SHARED
def test_a_buffer_is_as_after_the_first_run(share_noise: bool) -> None:
    model = Base()
    buffer = model.mean

    def forward(model: Base, x: Tensor) -> Tensor:
        model.mean += 1
        logits = model.rest(x)
        model.mean += 1
        return logits

    runs(model, forward, share_noise)
    assert model.mean is buffer
    assert torch.equal(buffer, torch.full((3,), 2.0))


@SHARED
def test_a_forward_that_branches_on_state_of_its_own(share_noise: bool) -> None:
    """Each run is right for the branch it took, other functions or the same ones with other arguments."""
    model, dice = Base(), random.Random(1)
    taken: list[str] = []
    ways: dict[str, Callable[[Tensor], Tensor]]
    ways = {"first": model.first, "other": model.other, "tanh": torch.tanh, "relu": torch.relu, "none": lambda x: x}

    def forward(model: Base, x: Tensor) -> Tensor:
        taken.append(dice.choice(list(ways)))
        return model.rest(ways[taken[-1]](x) * 2)

    runs(model, forward, share_noise, 12, lambda x, found: assert_close(found, model.rest(ways[taken[-1]](x) * 2)))
    assert len(set(taken)) > 3


@SHARED
def test_a_forward_that_chooses_a_layer_by_state_of_its_own(share_noise: bool) -> None:
    """The same functions are called in the same order, with other arguments."""
    model, calls = Base(), [0]
    layers = [model.first, model.other]

    def forward(model: Base, x: Tensor) -> Tensor:
        calls[0] += 1
        return model.rest(layers[calls[0] % 2](x))

    runs(model, forward, share_noise, 4, lambda x, found: assert_close(found, model.rest(layers[calls[0] % 2](x))))


@SHARED
def test_a_branch_drawn_from_pythons_generator_is_the_same_again(share_noise: bool) -> None:
    """Python's generator is replayed with torch's, so that all runs take one way."""
    model = Base()

    def forward(model: Base, x: Tensor) -> Tensor:
        layer = model.first if random.random() < 0.5 else model.other
        if random.random() < 0.5:
            x = torch.tanh(x)
        return model.rest(layer(x)) * random.random()

    for seed in range(4):
        random.seed(seed)
        found = runs(model, forward, share_noise)
        for output in found.others:
            assert_close(output, found.base if share_noise else found.others[0])


@SHARED
@pytest.mark.parametrize("caught", [RuntimeError, Exception, BaseException])
def test_a_forward_that_handles_errors_does_not_handle_ours(share_noise: bool, caught: type[BaseException]) -> None:
    """As one that tries a quicker way first."""
    model, calls = Base(), [0]

    def forward(model: Base, x: Tensor) -> Tensor:
        calls[0] += 1
        try:
            x = torch.tanh(x) if calls[0] % 2 else torch.sin(x)
        except caught:
            x = x * 0
        return model.rest(x)

    def check(x: Tensor, found: Tensor) -> None:
        assert_close(found, model.rest(torch.tanh(x) if calls[0] % 2 else torch.sin(x)))

    runs(model, forward, share_noise, 4, check)

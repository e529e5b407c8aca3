"""Forwards for which handing back earlier results could go wrong."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import Masks, RecordedForward, find_sites

BATCH, STEPS = 4, 6
SHARED = pytest.mark.parametrize("share_noise", [True, False])


class Base(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.lstm, self.out = nn.LSTM(3, 5), nn.Linear(5, 2)
        self.register_buffer("mean", torch.zeros(3))


def runs(model: Base, forward: Callable[[Tensor], Tensor], *, share_noise: bool) -> tuple[Tensor, list[Tensor], Masks]:
    """The base output and those of three runs under masks of ones."""
    x = torch.randn(STEPS, BATCH, 3)
    recorded = RecordedForward(model, find_sites(model), share_noise=share_noise)
    with recorded.first_run():
        base = forward(x)
    recorded.draw_noise(3)
    masks = {site: site.ones(BATCH).requires_grad_() for site in recorded.sites}
    return base, [recorded.run(lambda: forward(x), masks) for _ in range(3)], masks


def assert_all_like_base(base: Tensor, others: list[Tensor]) -> None:
    for other in others:
        torch.testing.assert_close(other, base, rtol=1e-5, atol=1e-6)


@SHARED
def test_results_written_in_place_afterwards(share_noise: bool) -> None:
    model = Base()

    def forward(x: Tensor) -> Tensor:
        total = x.new_zeros(BATCH, 5)
        total += model.lstm(x)[0][-1]
        logits: Tensor = model.out(total)
        return logits

    base, others, _ = runs(model, forward, share_noise=share_noise)
    assert_all_like_base(base, others)


@SHARED
def test_a_view_of_a_result_written_in_place_afterwards(share_noise: bool) -> None:
    model = Base()

    def forward(x: Tensor) -> Tensor:
        total = x.new_zeros(2, BATCH, 5)
        last = model.lstm(x)[0][-1]
        total[1].add_(last)
        logits: Tensor = model.out(total.sum(0))
        return logits

    base, others, _ = runs(model, forward, share_noise=share_noise)
    assert_all_like_base(base, others)


@SHARED
def test_results_written_in_place_before_the_mask(share_noise: bool) -> None:
    model = Base()

    def forward(x: Tensor) -> Tensor:
        hidden = model.first(x)
        hidden += x
        hidden[0] = 1.0
        logits: Tensor = model.out(model.lstm(hidden)[0][-1])
        return logits

    base, others, _ = runs(model, forward, share_noise=share_noise)
    assert_all_like_base(base, others)


@SHARED
def test_a_buffer_written_in_place_before_the_mask_and_read_after_it(share_noise: bool) -> None:
    """As running statistics are that standardise the input, and scale the output back."""
    model = Base()

    def forward(x: Tensor) -> Tensor:
        model.mean.mul_(0.9).add_(x.mean((0, 1)), alpha=0.1)
        last = model.lstm(x - model.mean)[0][-1]
        logits: Tensor = model.out(last) + model.mean.sum() * 10
        return logits

    base, others, _ = runs(model, forward, share_noise=share_noise)
    assert_all_like_base(base, others)


@SHARED
def test_a_buffer_is_as_after_the_first_run(share_noise: bool) -> None:
    model = Base()
    buffer = model.mean

    def forward(x: Tensor) -> Tensor:
        model.mean += 1
        logits: Tensor = model.out(model.lstm(x)[0][-1])
        model.mean += 1
        return logits

    runs(model, forward, share_noise=share_noise)
    assert model.mean is buffer
    assert torch.equal(buffer, torch.full((3,), 2.0))


@SHARED
def test_a_part_without_gradients_that_holds_the_masked_layer(share_noise: bool) -> None:
    """``torch.no_grad`` begins before the mask acts and must still be on where it acts."""
    model = Base()

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            last = model.lstm(model.first(x))[0][-1]
        logits: Tensor = model.out(last)
        return logits

    base, others, _ = runs(model, forward, share_noise=share_noise)
    assert_all_like_base(base, others)
    for output in (base, *others):
        (gradient,) = torch.autograd.grad(output.sum(), [model.lstm.get_parameter("weight_hh_l0")], allow_unused=True)
        assert gradient is None


@SHARED
def test_a_part_without_gradients_before_the_mask(share_noise: bool) -> None:
    model = Base()

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            x = model.first(x)
        logits: Tensor = model.out(model.lstm(x)[0][-1])
        return logits

    base, others, masks = runs(model, forward, share_noise=share_noise)
    assert_all_like_base(base, others)
    for output in others:
        gradients = torch.autograd.grad(
            output.sum(),
            [
                *(m for m in masks.values() if isinstance(m, Tensor)),
                model.lstm.get_parameter("weight_hh_l0"),
                model.out.weight,
            ],
        )
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


@SHARED
def test_a_forward_that_branches_on_state_of_its_own(share_noise: bool) -> None:
    """Each run is right for the branch it took, other functions or the same ones with other arguments."""
    model, dice, taken = Base(), random.Random(1), []
    ways: dict[str, Callable[[Tensor], Tensor]]
    ways = {"first": model.first, "tanh": torch.tanh, "relu": torch.relu, "none": lambda x: x}

    def branch(x: Tensor) -> Tensor:
        taken.append(dice.choice(list(ways)))
        return ways[taken[-1]](x)

    def forward(x: Tensor) -> Tensor:
        logits: Tensor = model.out(model.lstm(branch(x) * 2)[0][-1])
        return logits

    x = torch.randn(STEPS, BATCH, 3)
    recorded = RecordedForward(model, find_sites(model), share_noise=share_noise)
    with recorded.first_run():
        forward(x)
    masks = {site: site.ones(BATCH) for site in recorded.sites}
    for _ in range(12):
        output = recorded.run(lambda: forward(x), masks)
        torch.testing.assert_close(output, model.out(model.lstm(ways[taken[-1]](x) * 2)[0][-1]), rtol=1e-5, atol=1e-6)
    assert len(set(taken)) > 2


@SHARED
def test_a_forward_that_chooses_a_layer_by_state_of_its_own(share_noise: bool) -> None:
    """The same functions are called in the same order, with other arguments."""
    model = Base()
    layers = [model.first, model.other]
    calls = [0]

    def forward(x: Tensor) -> Tensor:
        calls[0] += 1
        logits: Tensor = model.out(model.lstm(layers[calls[0] % 2](x))[0][-1])
        return logits

    x = torch.randn(STEPS, BATCH, 3)
    recorded = RecordedForward(model, find_sites(model), share_noise=share_noise)
    with recorded.first_run():
        forward(x)
    for _ in range(4):
        output = recorded.run(lambda: forward(x), {site: site.ones(BATCH) for site in recorded.sites})
        expected = model.out(model.lstm(layers[calls[0] % 2](x))[0][-1])
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)


@SHARED
def test_a_branch_drawn_from_pythons_generator_is_the_same_again(share_noise: bool) -> None:
    """Python's generator is replayed with torch's, so that all runs take one way."""
    model = Base()

    def forward(x: Tensor) -> Tensor:
        layer = model.first if random.random() < 0.5 else model.other
        if random.random() < 0.5:
            x = torch.tanh(x)
        logits: Tensor = model.out(model.lstm(layer(x))[0][-1])
        return logits * random.random()

    for seed in range(4):
        random.seed(seed)
        base, others, _ = runs(model, forward, share_noise=share_noise)
        assert_all_like_base(base if share_noise else others[0], others)


@SHARED
@pytest.mark.parametrize("caught", [RuntimeError, Exception, BaseException])
def test_a_forward_that_handles_errors_does_not_handle_ours(share_noise: bool, caught: type[BaseException]) -> None:
    """As one that tries a quicker way first."""
    model, calls = Base(), [0]

    def forward(x: Tensor) -> Tensor:
        calls[0] += 1
        try:
            x = torch.tanh(x) if calls[0] % 2 else torch.sin(x)
        except caught:
            x = x * 0
        logits: Tensor = model.out(model.lstm(x)[0][-1])
        return logits

    x = torch.randn(STEPS, BATCH, 3)
    recorded = RecordedForward(model, find_sites(model), share_noise=share_noise)
    with recorded.first_run():
        forward(x)
    for _ in range(4):
        output = recorded.run(lambda: forward(x), {site: site.ones(BATCH) for site in recorded.sites})
        expected = model.out(model.lstm(torch.tanh(x) if calls[0] % 2 else torch.sin(x))[0][-1])
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)

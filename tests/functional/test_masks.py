from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from lightning_advdrop.functional import (
    Flips,
    adversarial_flips,
    drop_one,
    flip_budget,
    rescale_mask,
    sample_bernoulli,
    sample_one_drop,
)
from tests.helpers.messages import refused
from tests.helpers.reference_masks import all_masks, best_gains

thorough = settings(deadline=None, derandomize=True, max_examples=150)
Search = tuple[Tensor, Tensor, int, Literal["both", "drop"]]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def searches(draw: st.DrawFn, slopes: st.SearchStrategy[float]) -> Search:
    rows, units = draw(st.integers(1, 4)), draw(st.integers(1, 10))

    def matrix(elements: st.SearchStrategy[float]) -> Tensor:
        row = st.lists(elements, min_size=units, max_size=units)
        return torch.tensor(draw(st.lists(row, min_size=rows, max_size=rows)), dtype=torch.float64)

    budget = draw(st.integers(0, units + 2))
    return matrix(st.sampled_from([0.0, 1.0])), matrix(slopes), budget, draw(st.sampled_from(["both", "drop"]))


# Sums of these are exact, and they tie often.
coarse = st.integers(-6, 6).map(lambda eighths: eighths / 8)
fine = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(searches(coarse))
@thorough
def test_flips_reach_the_optimum_of_all_masks_exactly(search: Search) -> None:
    mask, grad, budget, flips = search
    found = adversarial_flips(mask, grad, budget, flips)
    torch.testing.assert_close(((found - mask) * grad).sum(-1), best_gains(mask, grad, budget, flips), rtol=0, atol=0)


@given(searches(fine))
@thorough
def test_flips_reach_the_optimum_of_all_masks(search: Search) -> None:
    mask, grad, budget, flips = search
    found = adversarial_flips(mask, grad, budget, flips)
    expected = best_gains(mask, grad, budget, flips)
    torch.testing.assert_close(((found - mask) * grad).sum(-1), expected, rtol=1e-12, atol=1e-12)


@given(searches(coarse))
@thorough
def test_flips_keep_to_the_budget_and_only_take_positive_gains(search: Search) -> None:
    mask, grad, budget, flips = search
    found = adversarial_flips(mask, grad, budget, flips)
    flipped = found != mask
    assert set(found.flatten().tolist()) <= {0.0, 1.0}
    assert (flipped.sum(-1) <= budget).all()
    assert (grad * (1 - 2 * mask))[flipped].gt(0).all()
    if flips == "drop":
        assert (found <= mask).all()


@pytest.mark.parametrize("budget", range(7))
def test_a_row_of_ties_gets_exactly_the_budget(budget: int) -> None:
    mask = torch.ones(5, 6)
    found = adversarial_flips(mask, -torch.ones(5, 6), budget)
    assert (mask - found).sum(-1).tolist() == [budget] * 5


def test_rows_do_not_share_their_budget() -> None:
    mask = torch.ones(2, 3)
    grad = torch.tensor([[-9.0, -8.0, -7.0], [-0.1, 0.0, 0.1]])
    assert adversarial_flips(mask, grad, 2).tolist() == [[0, 0, 1], [0, 1, 1]]


def test_rows_of_more_dimensions_and_leading_rows_agree() -> None:
    mask, grad = torch.randint(2, (2, 3, 7)).float(), torch.randn(2, 3, 7)
    rows = adversarial_flips(mask.view(6, 7), grad.view(6, 7), 3)
    assert torch.equal(adversarial_flips(mask, grad, 3), rows.view(2, 3, 7))
    assert torch.equal(adversarial_flips(mask[0, 0], grad[0, 0], 3), rows[0])


def test_zero_gradients_flip_nothing() -> None:
    mask = all_masks(4)
    assert torch.equal(adversarial_flips(mask, torch.zeros_like(mask), 4), mask)
    assert torch.equal(adversarial_flips(mask, -torch.zeros_like(mask), 4), mask)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_flips_give_a_new_mask_of_the_same_kind_without_a_gradient(dtype: torch.dtype) -> None:
    mask = torch.ones(2, 4, dtype=dtype, requires_grad=True)
    found = adversarial_flips(mask, torch.full((2, 4), -1.0, dtype=dtype, requires_grad=True), 1)
    assert found.dtype is dtype
    assert not found.requires_grad
    assert mask.detach().eq(1).all()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((torch.ones(2, 3), torch.ones(3, 2), 1), ("grad", "mask", (2, 3), (3, 2))),
        ((torch.ones(3), torch.ones(3), -1), ("budget", 0, -1)),
        ((torch.ones(3), torch.ones(3), 1, "add"), ("flips", "both", "drop", "'add'")),
        ((torch.ones(2), torch.tensor([0.0, torch.nan]), 1), ("grad", "finite", "NaN")),
        ((torch.ones(2), torch.tensor([0.0, -torch.inf]), 0), ("grad", "finite", "infinity")),
    ],
)
def test_flips_refuse(arguments: Any, parts: tuple[object, ...]) -> None:
    with refused(*parts):
        adversarial_flips(*arguments)


def test_the_flip_modes_are_the_two_of_the_method() -> None:
    assert Flips == Literal["both", "drop"]


@pytest.mark.parametrize(
    ("rate", "units", "budget"),
    [
        *[(0.29, 100, 29), (0.57, 100, 57), (0.58, 100, 58), (0.07, 100, 7), (1.1e-1, 100, 11)],
        *[(0.03, 100, 3), (0.04, 1024, 40), (0.06, 400, 24), (0.0, 7, 0), (0, 7, 0), (1e-7, 7, 1), (1, 7, 7)],
        *[(0.5, 1, 1), (1.0, 1, 1), (0.999, 10, 9)],
    ],
)
def test_budget_is_the_floor_of_the_decimal_rate_but_at_least_one(rate: float, units: int, budget: int) -> None:
    assert flip_budget(rate, units) == budget


@given(st.integers(0, 1000), st.integers(1, 5000))
@thorough
def test_budget_of_every_rate_in_thousandths(thousandths: int, units: int) -> None:
    expected = max(1, thousandths * units // 1000) if thousandths else 0
    assert flip_budget(float(f"{thousandths}e-3"), units) == expected


@given(st.integers(1, 2000), st.integers(1, 2000))
@thorough
def test_budget_of_a_quotient_is_whole(budget: int, rest: int) -> None:
    units = budget + rest
    assert flip_budget(budget / units, units) == budget


@pytest.mark.parametrize(
    ("rate", "units", "parts"),
    [
        (-0.1, 5, ("rate", "[0, 1]", -0.1)),
        (1.5, 5, ("rate", "[0, 1]", 1.5)),
        (float("nan"), 5, ("rate", "[0, 1]", "nan")),
        (0.5, 0, ("units", 1, 0)),
    ],
)
def test_budget_refuses(rate: float, units: int, parts: tuple[object, ...]) -> None:
    with refused(*parts):
        flip_budget(rate, units)


def test_rescaled_rows_sum_to_their_units() -> None:
    masks = all_masks(5)[1:]
    rescaled = rescale_mask(masks)
    torch.testing.assert_close(rescaled.sum(-1), torch.full((31,), 5.0, dtype=torch.float64))
    assert torch.equal(rescaled > 0, masks > 0)
    assert all(len(set(row[row > 0].tolist())) == 1 for row in rescaled)


def test_rescaling_has_the_gradient_of_its_formula() -> None:
    masks = all_masks(4)
    masks = masks[masks.sum(-1) >= 2].requires_grad_()
    assert gradcheck(rescale_mask, (masks,))


def test_a_row_without_a_kept_unit_stays_zero_with_a_finite_gradient() -> None:
    mask = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]], requires_grad=True)
    rescaled = rescale_mask(mask)
    (grad,) = torch.autograd.grad(rescaled.square().sum() + rescaled.sum(), mask)
    assert rescaled[0].tolist() == [0, 0, 0]
    assert rescaled[1].tolist() == [1.5, 0, 1.5]
    assert grad.isfinite().all()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_drops_at_its_rate(rate: float) -> None:
    mask = sample_bernoulli((200, 500), rate, generator=generator(1))
    assert set(mask.flatten().tolist()) <= {0.0, 1.0}
    assert 1 - mask.mean().item() == pytest.approx(rate, abs=0.008 if 0 < rate < 1 else 0)  # five deviations


@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan")])
def test_bernoulli_refuses_what_is_no_probability(rate: float) -> None:
    with refused("rate", "[0, 1]", rate):
        sample_bernoulli((2, 2), rate)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6), (4, 1)])
def test_one_drop_drops_one_unit_of_each_row(shape: tuple[int, ...]) -> None:
    mask = sample_one_drop(shape)
    assert mask.shape == shape
    assert ((mask == 0).sum(-1) == 1).all()
    assert ((mask == 1).sum(-1) == shape[-1] - 1).all()


def test_one_drop_is_uniform_and_independent_between_rows() -> None:
    mask = sample_one_drop((10_000, 2, 5), generator=generator(2))
    places = (1 - mask).argmax(-1)  # (10000, 2)
    pairs = torch.bincount(places[:, 0] * 5 + places[:, 1], minlength=25) / 10_000
    assert pairs.sub(1 / 25).abs().max() < 0.01  # five deviations


def test_one_more_drop_is_uniform_among_the_units_that_are_kept() -> None:
    mask = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    dropped = mask - drop_one(mask.expand(8_000, 7), generator=generator(3))
    counts = dropped.sum(0)
    assert counts[mask == 0].eq(0).all()
    assert ((counts[mask == 1] - 2_000).square() / 2_000).sum() < 11.34  # chi-square of 3 degrees of freedom at 1 %


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_more_drop_keeps_rows_without_a_kept_unit(dtype: torch.dtype) -> None:
    mask = torch.tensor([[[0, 0, 0], [0, 1, 0]], [[1, 1, 1], [0, 0, 0]]], dtype=dtype, requires_grad=True)
    before = mask.detach().clone()
    dropped = drop_one(mask, generator=generator(4))
    assert (dropped.dtype, dropped.shape, dropped.requires_grad) == (dtype, mask.shape, False)
    assert dropped.sum(-1).tolist() == [[0, 0], [2, 0]]
    assert torch.equal(mask, before)


def test_one_more_drop_draws_for_each_row_by_itself() -> None:
    places = (1 - drop_one(torch.ones(10_000, 2, 4), generator=generator(5))).argmax(-1)  # (10000, 2)
    pairs = torch.bincount(places[:, 0] * 4 + places[:, 1], minlength=16)
    assert ((pairs - 625).square() / 625).sum() < 30.58  # chi-square of 15 degrees of freedom at 1 %


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_samples_are_determined_by_the_generator(dtype: torch.dtype) -> None:
    def draw(seed: int) -> tuple[Tensor, Tensor]:
        source = generator(seed)
        bernoulli = sample_bernoulli((6, 9), 0.5, generator=source, device="cpu", dtype=dtype)
        return bernoulli, sample_one_drop((6, 9), generator=source, device=torch.device("cpu"), dtype=dtype)

    for first, again, other in zip(draw(3), draw(3), draw(4), strict=True):
        assert first.dtype is dtype
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_samples_with_a_generator_leave_the_global_random_state() -> None:
    before = torch.get_rng_state()
    sample_bernoulli((3, 4), 0.5, generator=generator(0))
    sample_one_drop((3, 4), generator=generator(0))
    assert torch.equal(torch.get_rng_state(), before)
    sample_one_drop((3, 4))
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_every_device_gets_the_same_masks() -> None:
    for device in ("cpu", "cuda"):
        one = sample_one_drop((4, 8), generator=generator(5), device=device)
        many = sample_bernoulli((4, 8), 0.5, generator=generator(5), device=device)
        assert one.device.type == many.device.type == device
        assert torch.equal(one.cpu(), sample_one_drop((4, 8), generator=generator(5)))
        assert torch.equal(many.cpu(), sample_bernoulli((4, 8), 0.5, generator=generator(5)))

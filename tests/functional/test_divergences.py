from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from lightning_advdrop.functional import (
    IGNORED_LABEL,
    Direction,
    DivergenceName,
    bernoulli_kl,
    check_divergence,
    cross_entropy_to_label,
    divergence,
    kl_divergence,
    mse,
    mse_logits,
    mse_probs,
    weighted_mean,
)
from tests.helpers.messages import refused
from tests.helpers.reference_divergences import (
    each_bernoulli_kl,
    each_binary_ce,
    each_ce,
    each_kl,
    each_mse,
    each_mse_logits,
    each_mse_probs,
    mean_of_real,
)

PAIRS: dict[DivergenceName, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "kl": (kl_divergence, each_kl),
    "bernoulli_kl": (bernoulli_kl, each_bernoulli_kl),
    "mse": (mse, each_mse),
    "mse_logits": (mse_logits, each_mse_logits),
    "mse_probs": (mse_probs, each_mse_probs),
}
SHAPES = [(6, 5), (6, 2), (6, 1), (4, 6, 3), (4, 6, 1), (7,), (1,)]  # examples, or steps and examples, and classes
DIRECTIONS: list[Direction] = ["base_adv", "adv_base"]
each_name = pytest.mark.parametrize("name", PAIRS)
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_class_count = pytest.mark.parametrize("shape", [(6, 5), (6, 1), (4, 6, 3), (4, 6, 1)])
each_direction = pytest.mark.parametrize("direction", DIRECTIONS)


def outputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(shape, dtype=dtype), 3 * torch.randn(shape, dtype=dtype)


def labels(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(max(shape[-1], 2), shape[:-1])


def padding(shape: tuple[int, ...]) -> Tensor:
    weight = torch.randint(2, shape[:-1])
    return weight.flatten().index_fill(0, torch.tensor([0]), 1).view(shape[:-1])


@each_name
@each_shape
def test_divergences_equal_their_reference(name: DivergenceName, shape: tuple[int, ...]) -> None:
    base, adversarial = outputs(shape)
    function, each = PAIRS[name]
    torch.testing.assert_close(function(base, adversarial), each(base, adversarial).mean())
    found = [divergence(name, direction, base, adversarial) for direction in DIRECTIONS]
    torch.testing.assert_close(found, [each(base, adversarial).mean(), each(adversarial, base).mean()])


@each_name
@each_class_count
def test_padding_does_not_count(name: DivergenceName, shape: tuple[int, ...]) -> None:
    base, adversarial = outputs(shape)
    weight = padding(shape)
    expected = mean_of_real(PAIRS[name][1](base, adversarial), weight)
    for kind in (torch.float32, torch.float64, torch.long, torch.bool):
        found = divergence(name, "base_adv", base, adversarial, sample_weight=weight.to(kind))
        torch.testing.assert_close(found, expected)


@each_direction
@each_class_count
def test_cross_entropy_is_that_of_the_adversarial_output(direction: Direction, shape: tuple[int, ...]) -> None:
    base, adversarial = outputs(shape)
    target, weight = labels(shape), padding(shape)
    each = each_ce(adversarial, target)
    torch.testing.assert_close(divergence("ce", direction, base, adversarial, target=target), each.mean())
    torch.testing.assert_close(cross_entropy_to_label(adversarial, target), each.mean())
    found = divergence("ce", direction, base, adversarial, target=target, sample_weight=weight)
    torch.testing.assert_close(found, mean_of_real(each, weight))


@pytest.mark.parametrize("shape", [(5,), (1,)])
def test_cross_entropy_of_one_example_without_a_batch(shape: tuple[int, ...]) -> None:
    logits, target = outputs(shape)[0], labels(shape)
    torch.testing.assert_close(cross_entropy_to_label(logits, target), each_ce(logits, target))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES[:5])
def test_cross_entropy_leaves_out_examples_without_a_label(shape: tuple[int, ...], weighted: bool) -> None:
    logits, target = outputs(shape)[0], labels(shape)
    weight = padding(shape) if weighted else torch.ones(shape[:-1], dtype=torch.int64)
    expected = mean_of_real(each_ce(logits, target), weight)
    unlabelled, others = torch.randn(logits.shape, dtype=logits.dtype), torch.full_like(target, IGNORED_LABEL)
    both = torch.cat([logits, unlabelled]).requires_grad_()
    weights = torch.cat([weight, torch.ones_like(weight)]) if weighted else None
    found = cross_entropy_to_label(both, torch.cat([target, others]), weights)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, both)
    assert gradient[len(logits) :].eq(0).all()
    assert gradient[: len(logits)].abs().sum() > 0


@each_shape
def test_cross_entropy_without_any_label_is_zero(shape: tuple[int, ...]) -> None:
    logits = outputs(shape)[0].requires_grad_()
    found = cross_entropy_to_label(logits, torch.full(shape[:-1], IGNORED_LABEL))
    assert found == 0
    assert torch.autograd.grad(found, logits)[0].eq(0).all()


def test_cross_entropy_of_one_logit_takes_probabilities() -> None:
    logits = torch.randn(5, 1, dtype=torch.float64)
    target = torch.rand(5, dtype=torch.float64)
    p = logits.squeeze(-1).sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(cross_entropy_to_label(logits, target), expected)


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (2, 3, 3), (2, 3, 1)])
@pytest.mark.parametrize("name", [*PAIRS, "ce"])
def test_gradients_are_those_of_the_formulas(name: DivergenceName, shape: tuple[int, ...]) -> None:
    base, adversarial = (output.requires_grad_() for output in outputs(shape))
    function = partial(divergence, name, "base_adv", target=labels(shape), sample_weight=padding(shape))
    assert gradcheck(function, (base, adversarial))


@pytest.mark.parametrize("shape", [(6, 5), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*PAIRS, "ce"])
def test_half_precision_is_computed_in_float32(
    name: DivergenceName, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    base, adversarial = outputs(shape, dtype)
    target = labels(shape)
    found = divergence(name, "base_adv", base, adversarial, target=target)
    assert found.dtype is torch.float32
    assert torch.equal(found, divergence(name, "base_adv", base.float(), adversarial.float(), target=target))


@each_name
def test_double_precision_stays_double(name: DivergenceName) -> None:
    assert divergence(name, "base_adv", *outputs((3, 4))).dtype is torch.float64


@each_name
@each_shape
def test_equal_outputs_have_no_divergence_and_are_stationary(name: DivergenceName, shape: tuple[int, ...]) -> None:
    base = outputs(shape)[0].requires_grad_()
    found = divergence(name, "base_adv", base.detach(), base)
    (grad,) = torch.autograd.grad(found, base)
    assert found.item() == 0
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [1, 2, 10])
@each_direction
@each_name
def test_extreme_logits_stay_finite(name: DivergenceName, direction: Direction, classes: int) -> None:
    for size in (100.0, 300.0):
        p, q = torch.full((2, classes), -size, requires_grad=True), torch.full((2, classes), 0.0)
        q[:, 0] = size
        found = divergence(name, direction, p, q)
        (grad,) = torch.autograd.grad(found, p)
        assert found.isfinite()
        assert grad.isfinite().all()


@pytest.mark.parametrize("size", [-100.0, 100.0])
def test_extreme_logits_stay_finite_to_any_label(size: float) -> None:
    logits = torch.full((2, 3), size, requires_grad=True)
    found = cross_entropy_to_label(logits, torch.tensor([[0.0, 1.0, 0.5]]).expand(2, 3))
    (grad,) = torch.autograd.grad(found, logits)
    assert found.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize("shape", [(6, 5), (6, 1), (4, 6, 3), (3,)])
def test_cross_entropy_of_several_labels(shape: tuple[int, ...]) -> None:
    logits, target = outputs(shape)[0].requires_grad_(), torch.rand(shape, dtype=torch.float64)
    each, weight = each_binary_ce(logits, target), padding(shape)
    torch.testing.assert_close(cross_entropy_to_label(logits, target), each.mean())
    torch.testing.assert_close(cross_entropy_to_label(logits, target, weight), mean_of_real(each, weight))
    assert gradcheck(partial(cross_entropy_to_label, target=target, sample_weight=weight), (logits,))


@pytest.mark.parametrize(
    ("shape", "weight_shape"),
    [((6,), (6,)), ((6, 1), (6,)), ((4, 5), (4,)), ((4, 5), (4, 5)), ((4, 5, 2), (4,)), ((4, 5, 2), (4, 5))],
)
def test_squared_errors_of_any_shape_are_weighed_by_their_leading_dimensions(
    shape: tuple[int, ...], weight_shape: tuple[int, ...]
) -> None:
    p, q = (output.requires_grad_() for output in outputs(shape))
    weight = torch.rand(weight_shape, dtype=torch.float64)
    spread = weight.reshape(*weight_shape, *(1,) * (len(shape) - len(weight_shape))).expand(shape)
    expected = (spread * (p - q) ** 2).sum() / spread.sum()
    torch.testing.assert_close(mse(p, q, weight), expected)
    torch.testing.assert_close(mse(p, q), ((p - q) ** 2).mean())
    assert gradcheck(mse, (p, q, weight))


def test_squared_errors_refuse_a_weight_of_other_leading_dimensions() -> None:
    for weight in ((3,), (2, 3, 1), (2, 2)):
        with refused("sample_weight", weight):
            mse(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(weight))


@pytest.mark.parametrize("shape", [(6, 2), (3, 6, 2)])
def test_one_logit_is_a_pair_with_zero(shape: tuple[int, ...]) -> None:
    p, q = outputs(shape)
    p[..., 1], q[..., 1] = 0, 0
    torch.testing.assert_close(kl_divergence(p[..., :1], q[..., :1]), kl_divergence(p, q))


def test_all_padding_gives_zero_with_a_gradient_of_zero() -> None:
    p, q = (output.requires_grad_() for output in outputs((3, 4)))
    found = kl_divergence(p, q, torch.zeros(3))
    grads = torch.autograd.grad(found, (p, q))
    assert found.item() == 0
    assert all(grad.eq(0).all() for grad in grads)


def test_weights_broadcast_and_need_not_be_binary() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert weighted_mean(values).item() == 3
    assert weighted_mean(values, torch.tensor([3.0, 1.0])).item() == pytest.approx((3 * 4 + 8) / 8)
    assert weighted_mean(values, torch.tensor([[0.5], [0.0]])).item() == pytest.approx(1.5)


@each_name
def test_different_shapes_are_refused(name: DivergenceName) -> None:
    with refused("outputs", "shape", (2, 3), (1, 3)):
        divergence(name, "base_adv", torch.zeros(2, 3), torch.zeros(1, 3))


def test_a_weight_of_another_shape_is_refused() -> None:
    for shape in ((3,), (2, 2), (5, 2)):
        with refused("sample_weight", (2,), shape):
            kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(shape))


def test_cross_entropy_refuses_a_missing_target_and_one_of_another_shape() -> None:
    with refused("target", "'ce'", None):
        divergence("ce", "adv_base", torch.zeros(2, 3), torch.zeros(2, 3))
    for target in (torch.zeros(2, 1), torch.zeros(2, 3, dtype=torch.long)):
        with refused("target", (2,), (2, 3), target.dtype, tuple(target.shape)):
            divergence("ce", "adv_base", torch.zeros(2, 3), torch.zeros(2, 3), target=target)


@pytest.mark.parametrize(
    ("name", "direction", "parts"),
    [
        ("js", "base_adv", ("divergence", *PAIRS, "ce", "'js'")),
        ("kl", "forward", ("direction", *DIRECTIONS, "'forward'")),
    ],
)
def test_unknown_names_are_refused(name: Any, direction: Any, parts: tuple[str, ...]) -> None:
    with refused(*parts):
        divergence(name, direction, torch.zeros(2, 3), torch.zeros(2, 3))
    with refused(*parts):
        check_divergence(name, direction)

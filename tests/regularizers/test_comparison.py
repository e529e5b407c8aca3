"""Reading predictions: one dimension, probabilities, classes in dimension 1, labels that are ignored."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lightning_advdrop.functional import DivergenceName, bernoulli_kl, kl_divergence, mse, mse_probs
from lightning_advdrop.regularizers import Comparison
from tests.helpers.messages import refused

OF_LOGITS: list[DivergenceName] = ["kl", "bernoulli_kl", "mse_logits", "mse_probs"]


def comparison(name: DivergenceName, kind: Any, dims: int, **known: Any) -> Comparison:
    return Comparison(name, name, kind, dims, **known)


@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("name", OF_LOGITS)
def test_one_dimension_is_one_logit_for_each_example(name: DivergenceName, batch: int) -> None:
    p, q = torch.randn(batch), torch.randn(batch)
    column = comparison(name, "classes", 2).distance(p[:, None], q[:, None], "base_adv")
    assert torch.equal(comparison(name, "classes", 1).distance(p, q, "base_adv"), column)
    weighted = comparison(name, "labels", 1).distance(p, q, "base_adv", sample_weight=torch.arange(batch) == 0)
    torch.testing.assert_close(weighted, comparison(name, "labels", 2).distance(p[:1, None], q[:1, None], "base_adv"))


def test_a_shift_of_all_logits_costs_what_it_should() -> None:
    p = torch.zeros(8)
    one = math.log(1 / (2 / (1 + math.e**3))) / 2 + math.log(1 / (2 * math.e**3 / (1 + math.e**3))) / 2
    found = comparison("kl", "classes", 1).distance(p, p + 3, "base_adv")
    torch.testing.assert_close(found, torch.tensor(one))


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_loss_of_one_logit_is_a_mean_over_the_batch(batch: int) -> None:
    logits, labels = torch.full((batch,), 0.3), torch.ones(batch)
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    for target in (labels, labels.long(), labels[:, None], labels.bool()):
        for kind in ("classes", "labels"):
            torch.testing.assert_close(comparison("kl", kind, 1).loss_to(logits, target), expected)
            torch.testing.assert_close(comparison("kl", kind, 2).loss_to(logits[:, None], target), expected)


def test_numbers_of_one_dimension_are_one_for_each_example() -> None:
    p, q, weight = torch.randn(4), torch.randn(4), torch.tensor([1, 1, 0, 1])
    read = comparison("mse", "numbers", 1)
    torch.testing.assert_close(read.distance(p, q, "base_adv"), (p - q).square().mean())
    expected = (p - q).square()[weight == 1].mean()
    torch.testing.assert_close(read.distance(p, q, "base_adv", sample_weight=weight), expected)


def test_probabilities_are_compared_as_the_logits_they_come_from() -> None:
    p, q = torch.randn(6, 4), torch.randn(6, 4)
    classes = comparison("kl", "classes", 2, probabilities=True)
    torch.testing.assert_close(classes.distance(p.softmax(-1), q.softmax(-1), "base_adv"), kl_divergence(p, q))
    squares = comparison("mse_probs", "classes", 2, probabilities=True)
    torch.testing.assert_close(squares.distance(p.softmax(-1), q.softmax(-1), "base_adv"), mse_probs(p, q))
    labels = comparison("bernoulli_kl", "labels", 2, probabilities=True)
    torch.testing.assert_close(labels.distance(p.sigmoid(), q.sigmoid(), "adv_base"), bernoulli_kl(q, p))
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(classes.loss_to(p.softmax(-1), target), F.cross_entropy(p, target))


def test_probabilities_of_zero_and_one_have_finite_gradients() -> None:
    for kind in ("classes", "labels"):
        p = torch.tensor([[0.0, 1.0]], requires_grad=True)
        name: DivergenceName = "kl" if kind == "classes" else "bernoulli_kl"
        found = comparison(name, kind, 2, probabilities=True).distance(p, torch.tensor([[0.5, 0.5]]), "base_adv")
        assert found.isfinite()
        assert torch.autograd.grad(found, p)[0].isfinite().all()


def test_classes_in_dimension_one_are_moved_to_the_last() -> None:
    p, q, target = torch.randn(2, 3, 5), torch.randn(2, 3, 5), torch.randint(3, (2, 5))
    read = comparison("kl", "classes", 3, class_dim=1)
    torch.testing.assert_close(read.distance(p, q, "base_adv"), kl_divergence(p.transpose(1, 2), q.transpose(1, 2)))
    torch.testing.assert_close(read.loss_to(p, target), F.cross_entropy(p, target))
    soft = torch.randn(2, 3, 5).softmax(1)
    torch.testing.assert_close(read.loss_to(p, soft), F.cross_entropy(p, soft))


def test_squares_of_label_probabilities_are_those_of_sigmoids() -> None:
    p, q = torch.randn(6, 4), torch.randn(6, 4)
    found = comparison("mse_probs", "labels", 2).distance(p, q, "base_adv")
    torch.testing.assert_close(found, mse(p.sigmoid(), q.sigmoid()))


def test_several_labels_may_be_whole_numbers() -> None:
    logits, target = torch.randn(4, 3), torch.randint(2, (4, 3))
    expected = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none").sum(-1).mean()
    for labels in (target, target.bool(), target.float()):
        torch.testing.assert_close(comparison("bernoulli_kl", "labels", 2).loss_to(logits, labels), expected)


def test_time_steps_with_an_ignored_label_are_padding_but_unlabelled_examples_are_not() -> None:
    base, target = torch.randn(2, 3, 4), torch.tensor([[1, 0, 0], [2, 3, 0]])
    own = comparison("kl", "classes", 3, ignore_index=0)
    assert torch.equal(own.weights(base, target, None), target != 0)  # type: ignore[arg-type]
    mask = torch.tensor([[0], [1]])
    assert own.weights(base, target, mask).tolist() == [[0, 0, 0], [1, 1, 0]]  # type: ignore[union-attr]
    assert own.weights(base, target[:, :2], None) is None
    assert comparison("kl", "classes", 2, ignore_index=0).weights(base[:, 0], target[:, 0], None) is None
    assert comparison("kl", "classes", 3).weights(base, torch.full((2, 3), -100), None) is None


@pytest.mark.parametrize("shape", [(4, 1), (4,)])
def test_the_loss_of_numbers_is_squared(shape: tuple[int, ...]) -> None:
    p, target = torch.randn(shape), torch.randn(4)
    found = comparison("mse", "numbers", len(shape), loss="mse_loss").loss_to(p, target)
    torch.testing.assert_close(found, F.mse_loss(p.view(4), target))


def test_losses_that_can_not_be_computed_again_are_refused() -> None:
    with refused("mse_loss", "poisson_nll_loss", "both_losses"):
        comparison("mse", "numbers", 2, loss="poisson_nll_loss").loss_to(torch.zeros(2, 1), torch.zeros(2, 1))
    for target in (torch.zeros(2), torch.zeros(2, 3, dtype=torch.long)):
        with refused("target", (2, 3), target.dtype, tuple(target.shape), "divergence"):
            comparison("mse", "numbers", 2).loss_to(torch.zeros(2, 3), target)


def test_another_number_of_dimensions_is_refused() -> None:
    with refused("output", "dimensions", 2, (3,), "squeeze"):
        comparison("kl", "classes", 2).distance(torch.zeros(3), torch.zeros(3), "base_adv")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (comparison("mse", "numbers", 2), "as numbers (mse)"),
        (comparison("mse_logits", "numbers", 2), "as logits (mse_logits)"),
        (comparison("kl", "classes", 3, class_dim=1), "as classes (kl), classes in dimension 1"),
        (comparison("kl", "classes", 3, probabilities=True), "as class probabilities (kl)"),
        (comparison("bernoulli_kl", "labels", 2), "as labels (bernoulli_kl)"),
        (comparison("bernoulli_kl", "labels", 1, probabilities=True), "as one probability each (bernoulli_kl)"),
        (comparison("kl", "classes", 3, ignore_index=0), "as classes (kl), without what is labelled 0"),
    ],
)
def test_it_says_what_it_compares(read: Comparison, words: str) -> None:
    assert str(read) == words
    assert Comparison(**read.state_dict()) == read

"""The mean of predictions, against the mean of their probabilities or values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.regularizers import Comparison
from lightning_advdrop.regularizers.mean_prediction import MeanPrediction
from tests.helpers.messages import refused


def mean_of(comparison: Comparison, predictions: Tensor) -> Tensor:
    mean = MeanPrediction(comparison)
    for each in predictions:
        mean.add(each)
    return mean.value()


@pytest.mark.parametrize(
    ("shape", "comparison"),
    [
        ((2,), Comparison("auto", "bernoulli_kl", "labels", dims=1)),
        ((2,), Comparison("kl", "kl", "classes", dims=1)),
        ((2, 1), Comparison("kl", "kl", "classes", dims=2)),
        ((2, 1), Comparison("mse_probs", "mse_probs", "classes", dims=2)),
        ((2, 3), Comparison("auto", "bernoulli_kl", "labels", dims=2)),
        ((2, 3), Comparison("mse_probs", "mse_probs", "labels", dims=2)),
    ],
)
def test_the_mean_of_single_logits_and_labels_is_that_of_their_sigmoids(
    shape: tuple[int, ...], comparison: Comparison
) -> None:
    logits = 3 * torch.randn(5, *shape, dtype=torch.float64)
    found = mean_of(comparison, logits)
    assert found.shape == shape
    torch.testing.assert_close(found.sigmoid(), logits.sigmoid().mean(0))


@pytest.mark.parametrize("class_dim", [-1, 1])
def test_the_mean_of_classes_is_that_of_their_softmaxes(class_dim: int) -> None:
    logits = 3 * torch.randn(5, 2, 4, 3, dtype=torch.float64)
    comparison = Comparison("kl", "kl", "classes", dims=3, class_dim=class_dim)
    found = mean_of(comparison, logits)
    dim = class_dim if class_dim < 0 else class_dim + 1
    torch.testing.assert_close(found.exp(), logits.softmax(dim).mean(0))
    each = comparison.distance(logits[0], found, "base_adv")
    expected = (logits[0].softmax(class_dim) * (logits[0].log_softmax(class_dim) - found)).sum(class_dim).mean()
    torch.testing.assert_close(each, expected)


@pytest.mark.parametrize(
    "comparison",
    [
        Comparison("auto", "mse", "numbers", dims=2),
        Comparison("mse_logits", "mse_logits", "classes", dims=2),
        Comparison("kl", "kl", "classes", dims=2, probabilities=True),
    ],
)
def test_numbers_and_probabilities_have_the_mean_of_their_values(comparison: Comparison) -> None:
    values = torch.rand(5, 2, 3)
    torch.testing.assert_close(mean_of(comparison, values), values.mean(0))


def test_extreme_logits_have_a_finite_mean_and_excluded_classes_stay_excluded() -> None:
    logits = torch.tensor([[[200.0, 0.0, -torch.inf]], [[300.0, 0.0, -torch.inf]]])
    found = mean_of(Comparison("kl", "kl", "classes", dims=2), logits)
    assert found.log_softmax(-1)[0].tolist() == [0, pytest.approx(-200 - 0.6931, abs=1e-3), -torch.inf]
    labels = mean_of(Comparison("bernoulli_kl", "bernoulli_kl", "labels", dims=2), logits)
    assert labels[0, 1:].tolist() == [0, -torch.inf]
    assert labels[0, 0] == pytest.approx(200 + 0.6931, abs=1e-3)


def test_half_precision_is_averaged_in_single() -> None:
    found: Any = mean_of(Comparison("kl", "kl", "classes", dims=2), torch.zeros(2, 1, 2, dtype=torch.bfloat16))
    assert found.dtype is torch.float32


def test_nothing_has_no_mean() -> None:
    with refused("value", "add"):
        MeanPrediction(Comparison("kl", "kl", "classes", dims=2)).value()

"""Labels of every form: indices of any type, class probabilities, several labels, and what is none."""

import pytest
import torch
import torch.nn.functional as F

from lightning_advdrop.functional import IGNORED_LABEL, cross_entropy_to_label, divergence
from tests.helpers.messages import refused
from tests.helpers.reference_divergences import each_binary_ce

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.25, 0.75]])


def test_class_probabilities_are_of_exclusive_classes() -> None:
    expected = -(SOFT * LOGITS.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(cross_entropy_to_label(LOGITS, SOFT, several=False), expected)
    torch.testing.assert_close(divergence("ce", "base_adv", LOGITS, LOGITS, target=SOFT), expected)
    torch.testing.assert_close(expected, F.cross_entropy(LOGITS, SOFT))
    several = each_binary_ce(LOGITS, SOFT).mean()
    torch.testing.assert_close(divergence("bernoulli_ce", "base_adv", LOGITS, LOGITS, target=SOFT), several)
    assert abs(several - expected) > 0.1


def test_an_excluded_class_of_probability_zero_adds_nothing() -> None:
    logits = torch.tensor([[2.0, 0.0, -torch.inf]], requires_grad=True)
    found = cross_entropy_to_label(logits, SOFT[:1], several=False)
    torch.testing.assert_close(found, F.cross_entropy(logits[:, :2], SOFT[:1, :2]))
    assert torch.autograd.grad(found, logits)[0].isfinite().all()


def test_probabilities_that_are_none_are_refused_where_they_count() -> None:
    several_labels = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    with refused("target", "sum to 1", 2, "bernoulli_ce"):
        cross_entropy_to_label(LOGITS, several_labels, several=False)
    padded = cross_entropy_to_label(LOGITS, several_labels, torch.tensor([0, 1]), several=False)
    torch.testing.assert_close(padded, F.cross_entropy(LOGITS[1:], torch.tensor([0])))
    for several in (True, False):
        with refused("target", "[0, 1]", 1.5, "mse"):
            cross_entropy_to_label(LOGITS, SOFT + torch.tensor([0.8, 0.0, 0.0]), several=several)
    with refused("target", "[0, 1]", -0.5):
        cross_entropy_to_label(LOGITS[:, :1], torch.tensor([-0.5, 0.5]))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("classes", [1, 3])
def test_class_indices_of_any_integer_type(kind: torch.dtype, classes: int) -> None:
    target = torch.tensor([1, 0])
    found = cross_entropy_to_label(LOGITS[:, :classes], target.to(kind))
    assert torch.equal(found, cross_entropy_to_label(LOGITS[:, :classes], target))


@pytest.mark.parametrize(("classes", "label", "most"), [(3, -1, 2), (3, 3, 2), (1, 2, 1), (1, -1, 1), (3, 255, 2)])
def test_class_indices_out_of_range_are_refused(classes: int, label: int, most: int) -> None:
    logits, target = LOGITS[:, :classes], torch.tensor([0, label])
    with refused("target", 0, most, IGNORED_LABEL, label, "ignore_index"):
        cross_entropy_to_label(logits, target)
    expected = cross_entropy_to_label(logits[:1], target[:1])
    torch.testing.assert_close(cross_entropy_to_label(logits, target, ignore_index=label), expected)
    torch.testing.assert_close(cross_entropy_to_label(logits, target, torch.tensor([1, 0])), expected)


def test_floating_point_class_indices_are_refused() -> None:
    with refused("target", "class indices", 3, torch.float32, "long()"):
        cross_entropy_to_label(LOGITS, torch.tensor([0.0, 2.0]))

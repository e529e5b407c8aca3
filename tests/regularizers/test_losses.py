"""Seeing the losses that a step calls, and finding the one that reads a prediction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop.regularizers import LossWatch
from lightning_advdrop.regularizers.losses import is_derived, is_same, labels_of

x, soft = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
y, soft = torch.tensor([0, 2, 1, 1]), soft.softmax(-1)
CALLS: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "cross_entropy": ("classes", lambda: nn.CrossEntropyLoss()(x, y)),
    "nll_loss": ("classes", lambda: nn.NLLLoss()(x, y)),
    "kl_div": ("classes", lambda: nn.KLDivLoss(reduction="batchmean")(x, soft)),
    "ctc_loss": (
        "classes",
        lambda: F.ctc_loss(x.view(4, 1, 3).log_softmax(-1), y[1:3].view(1, 2), torch.tensor([4]), torch.tensor([2])),
    ),
    "binary_cross_entropy": ("labels", lambda: nn.BCELoss()(soft, soft)),
    "binary_cross_entropy_with_logits": ("labels", lambda: nn.BCEWithLogitsLoss()(x, soft)),
    "multilabel_soft_margin_loss": ("labels", lambda: nn.MultiLabelSoftMarginLoss()(x, soft.round())),
    "mse_loss": ("numbers", lambda: F.mse_loss(input=x, target=soft)),
    "l1_loss": ("numbers", lambda: nn.L1Loss()(x, soft)),
    "smooth_l1_loss": ("numbers", lambda: nn.SmoothL1Loss()(x, soft)),
    "huber_loss": ("numbers", lambda: nn.HuberLoss()(x, soft)),
    "gaussian_nll_loss": ("numbers", lambda: nn.GaussianNLLLoss()(x, soft, soft)),
    "poisson_nll_loss": ("numbers", lambda: nn.PoissonNLLLoss()(x, soft)),
}


@pytest.mark.parametrize("name", CALLS)
def test_losses_are_seen_with_their_input_and_change_nothing(name: str) -> None:
    kind, call = CALLS[name]
    with LossWatch() as watch:
        found = call()
    assert torch.equal(found, call())
    assert [(seen.name, seen.kind) for seen in watch.seen] == [(name, kind)]
    assert watch.seen[0].input.numel() == x.numel()


def test_the_ignored_class_is_seen() -> None:
    with LossWatch() as watch:
        nn.CrossEntropyLoss(ignore_index=2)(x, y)
        F.nll_loss(x, y, None, None, 1)
    assert [seen.ignore_index for seen in watch.seen] == [2, 1]


READINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], bool]] = {
    "as it is": (lambda p: p.transpose(1, 2), lambda t: t, True),
    "flat": (lambda p: p.reshape(-1, 6), lambda t: t.reshape(-1), True),
    "log-softmax": (lambda p: p.log_softmax(-1).transpose(1, 2), lambda t: t, True),
    "double": (lambda p: p.double().transpose(1, 2), lambda t: t, True),
    "time first": (lambda p: p.transpose(0, 1).reshape(-1, 6), lambda t: t.t().reshape(-1), False),
    "a part": (lambda p: p[:, 1:].transpose(1, 2), lambda t: t[:, 1:], False),
    "others": (lambda p: p.square().reshape(-1, 6), lambda t: t.reshape(-1), False),
    "probabilities": (lambda p: p.reshape(-1, 6), lambda t: F.one_hot(t.reshape(-1), 6).float(), False),
}


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("excluded", [False, True])
def test_the_labels_of_a_loss_are_those_of_the_logits_that_it_reads(name: str, excluded: bool) -> None:
    read, label, found = READINGS[name]
    logits, target = torch.randn(2, 5, 6), torch.randint(1, 6, (2, 5))
    if excluded:
        logits[..., 0] = -torch.inf
    loss = F.nll_loss if name == "log-softmax" else F.cross_entropy
    with LossWatch() as watch:
        F.mse_loss(logits, logits)
        loss(read(logits), label(target))
    labels = labels_of(watch.seen, logits)
    assert (labels is not None and torch.equal(labels, target)) == found
    assert found or labels is None


prediction = nn.Linear(3, 6)(torch.randn(2, 5, 3))
SAME: list[Callable[[Tensor], Tensor]] = [
    lambda p: p,
    lambda p: p.view(-1, 6),
    lambda p: p.transpose(1, 2).reshape(-1),
    lambda p: p.movedim(0, 1),
    lambda p: p.double(),
]
DERIVED: list[Callable[[Tensor], Tensor]] = [
    lambda p: p[:, :-1].reshape(-1, 6),
    lambda p: p[p > 0],
    lambda p: p.log_softmax(-1).transpose(1, 2),
    lambda p: p.sigmoid().clamp(0.1, 0.9),
    lambda p: p / 2 + 1,
]


@pytest.mark.parametrize("read", SAME)
def test_a_prediction_in_another_shape_is_the_same(read: Callable[[Tensor], Tensor]) -> None:
    assert is_same(read(prediction), prediction)
    assert is_derived(read(prediction), prediction)
    assert is_derived(read(prediction.detach()), prediction) is None


@pytest.mark.parametrize("read", DERIVED)
def test_what_is_computed_without_weights_is_derived(read: Callable[[Tensor], Tensor]) -> None:
    assert not is_same(read(prediction), prediction)
    assert is_derived(read(prediction), prediction)


def test_what_is_computed_by_weights_is_not_derived() -> None:
    for layer in (nn.Linear(6, 6), nn.Linear(6, 6, bias=False)):
        for value in (layer(prediction), layer(prediction[0]).softmax(-1)):
            assert is_derived(value, prediction) is False

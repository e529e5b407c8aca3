"""Labels in the batch that are others than those that the model's own loss gets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, AdversarialTrainingCallback
from tests.helpers.forecasters import Forecaster, fitted, penalty
from tests.helpers.messages import names

LABELS = torch.arange(16) % 3
LENGTHS = torch.arange(16) % 2 + 1
METHODS: dict[str, Callable[..., Any]] = {
    "training": lambda **settings: AdversarialTrainingCallback(sites="input", epsilon=1.0, **settings),
    "dropout": lambda **settings: AdversarialDropoutCallback(
        rate=0.3, divergence="ce", search="gradient", start="ones", **settings
    ),
}


class Third(Forecaster):
    """Takes the labels from the third part of the batch, behind the lengths of sequences."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self(batch[0]), batch[2])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.training_step(batch, batch_idx)


@pytest.mark.parametrize("method", METHODS)
def test_other_labels_than_those_of_the_models_loss_are_warned_of_once(method: str) -> None:
    make, model = METHODS[method], Third(3, F.cross_entropy)
    with pytest.warns(UserWarning, match=names("target=1", 1, "cross_entropy", 0, "target=")) as caught:
        wrong = penalty(model, LENGTHS, make(), more=[LABELS], max_epochs=2)
    assert len([each for each in caught if "target=1" in str(each.message)]) == 1
    named = penalty(model, LENGTHS, make(target=2), more=[LABELS], max_epochs=2)
    second = penalty(Forecaster(3, F.cross_entropy), LABELS, make(), max_epochs=2)
    assert named == second != wrong


def mixed(p: Tensor, y: Tensor) -> Tensor:
    return 0.3 * F.cross_entropy(p, y.flip(0)) + 0.7 * F.cross_entropy(p, y)


def without_some(p: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(p, torch.where(torch.arange(len(y)) % 2 > 0, y, 2), ignore_index=2)


FINE: dict[str, tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]] = {
    "the same": (LABELS, F.cross_entropy),
    "of one byte": (LABELS.to(torch.uint8), lambda p, y: F.cross_entropy(p, y.long())),
    "probabilities": (F.one_hot(LABELS, 3).float(), F.cross_entropy),
    "two losses": (LABELS, mixed),
    "left out by the loss": (LABELS % 2, without_some),
    "unlabelled": (torch.where(LABELS > 0, LABELS, -100), lambda p, y: F.cross_entropy(p, y.clamp(min=0))),
    "of a part": (LABELS, lambda p, y: F.cross_entropy(p[:4], y[4:])),
}


@pytest.mark.parametrize("case", FINE)
def test_labels_that_fit_are_not_warned_of(case: str) -> None:
    target, loss = FINE[case]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(Forecaster(3, loss), target, METHODS["training"]())
    assert not [str(each.message) for each in caught if "target" in str(each.message)]

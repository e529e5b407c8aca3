"""The search that raises the loss of the training step itself, whatever that loss is."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback
from lightning_advdrop.regularizers import Penalty
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer, seeded


class Opposite(PlainModel):
    """Trains on a loss of its own: the negative one."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return -F.cross_entropy(self(x), y)


def masks_of(model: type[PlainModel], search: Any) -> Tensor:
    """The masks of the first step."""
    callback = AdversarialDropoutCallback(rate=0.3, search=search, divergence="kl", share_masks=True)
    found: list[Penalty] = []
    callback.listeners.append(found.append)
    quiet_trainer(callbacks=[callback], max_steps=1, max_epochs=-1).fit(seeded(model), loader())
    return torch.cat(list(found[0].masks.values()))


def test_it_looks_at_the_loss_that_the_step_returns() -> None:
    """Of the opposite loss other units are worth most; the search by the prediction does not look at the loss."""
    assert not torch.equal(masks_of(PlainModel, "label"), masks_of(Opposite, "label"))
    assert torch.equal(masks_of(PlainModel, "top"), masks_of(Opposite, "top"))


class Unsupervised(PlainModel):
    """Trains on the penalty alone."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self(batch[0])
        return torch.zeros(())


def test_a_loss_without_a_gradient_leaves_the_search_to_the_prediction() -> None:
    masks = masks_of(Unsupervised, "label")
    assert torch.equal(masks, masks_of(Unsupervised, "top"))
    assert (masks == 0).any()

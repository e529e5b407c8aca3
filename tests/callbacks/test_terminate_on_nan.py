"""A loss that is no number ends the training, and leaves the weights alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop import TerminateOnNaN
from tests.helpers.messages import refused
from tests.helpers.plain_models import PlainModel, fitted_weights, loader, quiet_trainer, seeded


class BreaksDown(PlainModel):
    """Has a loss of another kind in the second epoch's second step, and remembers its weights before that."""

    automatic = True
    broken = float("nan")

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = self.automatic

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if (self.current_epoch, batch_idx) == (1, 1):
            self.earlier = {name: value.clone() for name, value in self.state_dict().items()}
            loss = loss * self.broken
        if not self.automatic:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss


class BreaksDownByHand(BreaksDown):
    automatic = False


class Overflows(BreaksDown):
    broken = float("inf")


@pytest.mark.parametrize(
    ("model", "value"), [(BreaksDown, "nan"), (BreaksDownByHand, "nan"), (Overflows, "inf")], ids=str
)
def test_the_training_ends_with_the_weights_before_it(model: type[BreaksDown], value: str) -> None:
    network = seeded(model)
    with refused("training loss", value, "epoch 1", "step 5", "learning rate", error=FloatingPointError):
        quiet_trainer(callbacks=[TerminateOnNaN()]).fit(network, loader())
    for name, weights in network.state_dict().items():
        assert torch.equal(weights, network.earlier[name])


def test_a_healthy_training_is_the_same_with_it() -> None:
    plain = fitted_weights(seeded(PlainModel))
    watched = fitted_weights(seeded(PlainModel), TerminateOnNaN())
    assert all(torch.equal(watched[name], value) for name, value in plain.items())


def test_without_it_lightning_goes_on() -> None:
    network = seeded(BreaksDown)
    quiet_trainer().fit(network, loader())
    assert not all(weights.isfinite().all() for weights in network.parameters())

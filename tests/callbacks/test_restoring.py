"""Fitting with callbacks that do nothing ends as plain training, whatever the module holds or does to its batch."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, PseudoEnsembleCallback
from tests.helpers.plain_models import FEATURES, PlainModel, loader, quiet_trainer, seeded


class Changing(PlainModel):
    """Changes its input in place, holds a generator and arrays, and has a momentum encoder in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(1)
        self.mean = np.zeros(FEATURES, np.float32)
        self.teacher, self.lift = nn.Linear(FEATURES, FEATURES).requires_grad_(False), nn.Linear(FEATURES, FEATURES)
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Any:
        x /= 2
        self.mean += 0.1 * x.mean((0, 1)).numpy()
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.lift.parameters(), strict=True):
                slow.data.mul_(0.9).add_(fast.data, alpha=0.1)
        noise = torch.from_numpy(self.generator.standard_normal(FEATURES).astype(np.float32))
        return super().forward(self.lift(x) + self.teacher(x) - torch.from_numpy(self.mean.copy()) + 0.1 * noise)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.losses.append(float(loss) + float(x.sum()))
        self.log("val/loss", loss)


def fitted(*callbacks: L.Callback) -> Changing:
    model: Changing = seeded(Changing)
    L.seed_everything(3, verbose=False)
    quiet_trainer(callbacks=list(callbacks), num_sanity_val_steps=0).fit(model, loader(), loader())
    return model


@pytest.mark.parametrize(
    "make",
    [
        # The other searches mask the base pass, which then is the plain one but for rounding.
        lambda: AdversarialDropoutCallback(rate=0.1, weight=1e-30, divergence="kl", search="gradient"),
        lambda: PseudoEnsembleCallback(rate=0.1, weight=1e-30),
        lambda: InferenceGapMonitor(samples=2, limit_batches=10),
    ],
)
def test_nothing_is_left_of_further_passes(make: Any) -> None:
    plain, other = fitted(), fitted(make())
    for (name, value), same in zip(plain.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, same), name
    assert plain.losses == other.losses
    assert np.array_equal(plain.mean, other.mean)
    assert plain.generator.bit_generator.state == other.generator.bit_generator.state


def test_passes_that_share_noise_start_where_the_base_pass_did() -> None:
    found: list[float] = []
    callback = PseudoEnsembleCallback(rate=0.0, share_masks=True)
    callback.listeners.append(lambda penalty: found.append(float(penalty.value.detach())))
    fitted(callback)
    assert len(found) == 8
    assert max(map(abs, found)) < 1e-6

"""Callbacks on a CUDA device: the same training as on the CPU, and the device's random numbers left alone."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, RegularizerCallback
from tests.callbacks.test_family import make
from tests.helpers.family import CALLBACKS
from tests.helpers.plain_models import PlainModel, QuietModel, fitted_weights, loader, quiet_trainer, seeded

pytestmark = pytest.mark.gpu

every_callback = pytest.mark.parametrize("callback", CALLBACKS.values(), ids=lambda found: found.__name__)
# With a mask of their own in the base pass, or a second supervised loss, a tiny weight still changes training.
CHANGE_THE_BASE = {
    "AdversarialTrainingCallback",
    "ExpectationLinearDropoutCallback",
    "FraternalDropoutCallback",
    "RDropCallback",
    "VariationalDropoutCallback",
}


def weights_on(device: str, model: L.LightningModule, *callbacks: L.Callback, **trainer: Any) -> dict[str, Tensor]:
    """The weights after training on a device, moved to the CPU."""
    found = fitted_weights(model, *callbacks, accelerator=device, devices=1, **trainer)
    return {name: value.cpu() for name, value in found.items()}


@every_callback
def test_it_trains_as_on_the_cpu(callback: type[RegularizerCallback]) -> None:
    here, there = (
        weights_on(device, seeded(QuietModel), make(callback), precision="64-true", max_epochs=2)
        for device in ("cpu", "gpu")
    )
    for name, value in here.items():
        torch.testing.assert_close(there[name], value, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("sites", ["recurrent", "weight", "input", "hidden", "output"])
@pytest.mark.parametrize("arguments", [{}, {"steps": 2}, {"search": "fisher", "start": "ones"}], ids=str)
def test_each_kind_of_site_trains_as_on_the_cpu(sites: str, arguments: dict[str, Any]) -> None:
    here, there = (
        weights_on(
            device,
            seeded(QuietModel),
            AdversarialDropoutCallback(sites=sites, rate=0.3, **arguments),
            precision="64-true",
            max_epochs=1,
        )
        for device in ("cpu", "gpu")
    )
    for name, value in here.items():
        torch.testing.assert_close(there[name], value, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    "callback",
    [found for found in CALLBACKS.values() if found.__name__ not in CHANGE_THE_BASE],
    ids=lambda f: f.__name__,
)
def test_the_networks_own_noise_on_the_device_stays_the_same(callback: type[RegularizerCallback]) -> None:
    """A trace in the device's generator would change the dropout of every later step."""

    def model() -> PlainModel:
        made: PlainModel = seeded(PlainModel)
        made.lstm.dropout = 0.0  # cuDNN draws it from a generator of its own, which no seed of torch's reaches
        return made

    plain = weights_on("gpu", model(), precision="64-true", max_epochs=1)
    found = weights_on("gpu", model(), make(callback, weight=1e-30), precision="64-true", max_epochs=1)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("sites", ["recurrent", "dropout"])
@pytest.mark.parametrize("share_masks", [False, True])
def test_a_model_with_dropout_learns(sites: str, share_masks: bool) -> None:
    callback = AdversarialDropoutCallback(sites=sites, rate=0.2, share_masks=share_masks, weight=0.1)
    trainer = quiet_trainer(accelerator="gpu", devices=1, callbacks=[callback], max_epochs=30)
    trainer.fit(seeded(PlainModel), loader())
    assert trainer.callback_metrics["loss"] < 0.8
    assert 0 < trainer.callback_metrics["advdrop/divergence"] < 10


@every_callback
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_mixed_precision_stays_finite(callback: type[RegularizerCallback], precision: Any) -> None:
    weights = weights_on("gpu", seeded(PlainModel), make(callback), precision=precision, max_epochs=2)
    assert all(value.isfinite().all() for value in weights.values())


def test_the_monitor_measures_the_gap() -> None:
    class Validated(PlainModel):
        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self.log("val/loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))

    trainer = quiet_trainer(accelerator="gpu", devices=1, callbacks=[InferenceGapMonitor(rate=0.2)], max_epochs=1)
    trainer.fit(seeded(Validated), loader(), loader())
    assert trainer.callback_metrics["gap/adversarial"] > trainer.callback_metrics["gap/random"] > 0

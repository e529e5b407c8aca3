"""Lightning comes under two names, whose classes are unrelated; models use either."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.fabric.utilities.exceptions
import lightning.pytorch
import lightning_fabric.utilities.exceptions
import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from torch import nn

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.messages import refused
from tests.helpers.plain_models import CLASSES, FEATURES, loader, seeded
from tests.helpers.releases import SAFE, since

PACKAGES = {
    lightning.pytorch: lightning.fabric.utilities.exceptions.MisconfigurationException,
    pytorch_lightning: lightning_fabric.utilities.exceptions.MisconfigurationException,
}
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
pytestmark = since(2, 6, "earlier trainers of pytorch_lightning refuse callbacks of lightning.pytorch, such as ours")
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def make(package: ModuleType) -> Any:
    base: Any = package.LightningModule

    class Model(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(FEATURES, 8, batch_first=True)
            self.head = nn.Linear(8, CLASSES)

        def forward(self, x: Any) -> Any:
            logits = self.head(self.lstm(x)[0][:, -1])
            self.log("inside", logits.mean(), on_step=False, on_epoch=True)
            return logits

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return seeded(Model)


def fit(package: Any, model: Any, epochs: int, folder: Path, ckpt_path: str | None = None) -> Any:
    package.seed_everything(3)
    callback = AdversarialDropoutCallback(rate=0.2)
    trainer = package.Trainer(callbacks=[callback], max_epochs=epochs, default_root_dir=folder, **QUIET)
    trainer.fit(model, loader(), ckpt_path=ckpt_path, **SAFE)
    return trainer


@each_package
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_it_trains_logs_and_resumes(package: Any, tmp_path: Path) -> None:
    model = make(package)
    trainer = fit(package, model, 3, tmp_path / "whole")
    assert trainer.callback_metrics["advdrop/divergence"] > 0
    assert {"train/penalty", "advdrop/flip_rate", "inside"} <= trainer.callback_metrics.keys()
    first = fit(package, make(package), 2, tmp_path / "first")
    path = first.checkpoint_callback.best_model_path
    resumed = make(package)
    fit(package, resumed, 3, tmp_path / "second", path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_both_learn_the_same(tmp_path: Path) -> None:
    first, second = (make(package) for package in PACKAGES)
    for package, model in zip(PACKAGES, (first, second), strict=True):
        fit(package, model, 1, tmp_path / package.__name__)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@each_package
def test_what_is_refused_raises_the_exception_of_that_package(package: ModuleType, tmp_path: Path) -> None:
    model = make(package)
    model.automatic_optimization = False
    with refused("AdversarialDropoutCallback", "manual", error=PACKAGES[package]):
        fit(package, model, 1, tmp_path)

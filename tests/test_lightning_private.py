"""Both branches of each function of `lightning_advdrop._lightning`."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule

from lightning_advdrop._lightning import attached_trainer


def _trainer(package: str, **arguments: Any) -> Any:
    return importlib.import_module(package).Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", **arguments
    )


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_a_module_has_the_trainer_it_was_given_and_before_that_none(package: str) -> None:
    pl_module, trainer = importlib.import_module(package).LightningModule(), _trainer(package)
    assert attached_trainer(pl_module) is None
    pl_module.trainer = trainer
    assert attached_trainer(pl_module) is trainer


def test_a_module_of_fabric_has_no_trainer() -> None:
    pl_module = LightningModule()
    pl_module.fabric = Fabric(accelerator="cpu", devices=1)
    assert attached_trainer(pl_module) is None

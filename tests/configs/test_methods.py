"""Every overlay on the quickstart: it replaces the regularizer alone, and trains a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lightning_advdrop.callbacks.training_step import attached_regularizers
from lightning_advdrop.cli import run_experiment
from tests.configs.test_configs import FEW_STEPS

FOLDER = Path(__file__).parent.parent.parent / "configs"
OVERLAYS = sorted((FOLDER / "methods").glob("*.yaml"))


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_it_takes_the_regularizers_place(overlay: Path) -> None:
    command = run_experiment(["fit", "--config", str(FOLDER / "quickstart.yaml"), "--config", str(overlay), *FEW_STEPS])
    content = yaml.safe_load(overlay.read_text())
    assert list(content) == ["regularizer"]
    wanted = content["regularizer"] or []
    wanted = wanted if isinstance(wanted, list) else [wanted]
    names = [f"lightning_advdrop.{type(each).__name__}" for each in attached_regularizers(command.model)]
    assert names == [each["class_path"] for each in wanted]
    assert command.trainer.checkpoint_callback is not None
    assert command.trainer.global_step == 2

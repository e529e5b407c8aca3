"""A few hundred steps of the soak, and that it sees what grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from tests.benchmarks import soak

pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")
EXACT = [name for name, (_, allowed) in soak.MEASURES.items() if allowed == 0]


def test_nothing_is_left_behind_by_epochs(tmp_path: Path) -> None:
    seen = soak.soak(tmp_path, steps=16, steps_an_epoch=4).seen
    assert {name: len(set(seen[name][1:])) for name in EXACT} == dict.fromkeys(EXACT, 1)


class Leaking(soak.Probe):
    """Leaves a hook, a graph and an open file behind in each epoch."""

    kept: list[Any]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.kept = [*getattr(self, "kept", []), os.dup(0), torch.ones(1, requires_grad=True) * 2]
        pl_module.register_forward_hook(lambda *_: None)
        super().on_train_epoch_start(trainer, pl_module)


def test_what_grows_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "Probe", Leaking)
    probe: Any = soak.soak(tmp_path, steps=16, steps_an_epoch=4)
    text, fine = soak.table(probe)
    grown = {name for name in EXACT if soak.growth(probe.seen[name]) > 0}
    assert grown == {"hooks", "tensors with a graph", "open files"}
    assert not fine
    assert all(name in text for name in soak.MEASURES)
    for each in probe.kept:
        if isinstance(each, int):
            os.close(each)

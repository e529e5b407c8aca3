"""The global random generators of a run that is resumed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_advdrop import GlobalRandomState
from tests.helpers.averaging_models import Scripted, averaged_fit, every_step, flat
from tests.helpers.messages import names
from tests.helpers.plain_models import quiet_trainer, seeded
from tests.helpers.releases import SAFE

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")


class Noisy(Scripted):
    """Draws from every global generator."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        factor = random.random() + float(np.random.normal())
        logits = torch.nn.functional.dropout(self(batch[0]), 0.3)
        return factor * torch.nn.functional.cross_entropy(logits, batch[1].flatten())


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_resumed_run_draws_what_an_uninterrupted_one_draws(step: int, tmp_path: Path) -> None:
    def run(folder: Path, ckpt_path: Any = None) -> Tensor:
        model = seeded(Noisy)
        averaged_fit(model, GlobalRandomState(), every_step(folder), max_epochs=2, ckpt_path=ckpt_path)
        return flat(model)

    whole = run(tmp_path / "whole")
    assert torch.equal(whole, run(tmp_path / "resumed", tmp_path / "whole" / f"step={step}.ckpt"))


def test_evaluating_a_checkpoint_changes_no_generator(tmp_path: Path) -> None:
    model, callback = seeded(Noisy), GlobalRandomState()
    averaged_fit(model, callback, every_step(tmp_path), max_epochs=1)
    state = torch.get_rng_state()
    trainer = quiet_trainer(callbacks=[callback, every_step(tmp_path)], enable_checkpointing=True)
    trainer.test(model, ckpt_path=tmp_path / "step=3.ckpt", verbose=False, **SAFE)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_was_loaded_and_not_used_is_forgotten(tmp_path: Path) -> None:
    callback = GlobalRandomState()
    callback.load_state_dict(callback.state_dict())
    averaged_fit(first := seeded(Noisy), callback, max_epochs=1)
    averaged_fit(second := seeded(Noisy), max_epochs=1)
    assert torch.equal(flat(first), flat(second))


def test_a_checkpoint_without_its_state_warns(tmp_path: Path) -> None:
    averaged_fit(seeded(Scripted), every_step(tmp_path), max_epochs=1)
    callbacks = GlobalRandomState(), every_step(tmp_path)
    with pytest.warns(UserWarning, match=names("checkpoint", "GlobalRandomState")):
        averaged_fit(seeded(Scripted), *callbacks, ckpt_path=tmp_path / "step=3.ckpt", max_epochs=1)

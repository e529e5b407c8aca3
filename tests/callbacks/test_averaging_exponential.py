"""Exponential averages of the weights: their values, when they are updated, and that they are resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_advdrop import ExponentialAveraging
from tests.helpers.averaging_models import (
    STEPS_AN_EPOCH,
    Alternating,
    Scripted,
    Weights,
    averaged_fit,
    every_step,
    flat,
)
from tests.helpers.plain_models import seeded
from tests.helpers.reference_averaging import moving_average

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")


@pytest.mark.parametrize(("decay", "warmup"), [(0.8, False), (0.8, True), (0.5, True)])
def test_the_exponential_average_is_the_references(decay: float, warmup: bool) -> None:
    """With a warm-up the decay reaches 0.5 at the eighth update, and 0.8 not within these steps."""
    model, weights = seeded(Scripted), Weights()
    averaged_fit(model, weights, ExponentialAveraging(decay, update_starting_at_step=2, warmup=warmup), max_epochs=4)
    wanted = torch.tensor(moving_average([each.tolist() for each in weights.seen[2:]], decay, warmup))
    torch.testing.assert_close(flat(model), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("step", [1, 3, 6])
def test_an_exponential_average_resumes_to_the_bit(step: int, tmp_path: Path) -> None:
    def run(folder: Path, ckpt_path: Any = None) -> dict[str, Any]:
        averaging = ExponentialAveraging(0.8, update_every_n_steps=2)
        averaged_fit(seeded(Scripted), averaging, every_step(folder), max_epochs=2, ckpt_path=ckpt_path)
        found: dict[str, Any] = torch.load(folder / "step=8.ckpt", weights_only=True)
        return found

    wanted = run(tmp_path / "whole")
    found = run(tmp_path / "resumed", tmp_path / "whole" / f"step={step}.ckpt")
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert all(torch.equal(value, found[part][name]) for name, value in wanted[part].items())


@pytest.mark.parametrize(
    ("every", "start", "batches"),
    [(2, None, range(8)), (4, None, range(0, 8, 2)), (5, None, (0, 2, 5, 7)), (4, 5, (4, 6)), (16, None, (0,))],
)
def test_each_due_step_of_several_optimizers_counts(every: int, start: int | None, batches: Sequence[int]) -> None:
    """A batch has two steps, and one update at most."""
    model, weights, averaging = seeded(Alternating), Weights(), ExponentialAveraging(0.8, every, start)
    trainer = averaged_fit(model, weights, averaging, max_epochs=2)
    assert (trainer.global_step, averaging.steps) == (4 * STEPS_AN_EPOCH, len(batches))
    wanted = torch.tensor(moving_average([weights.seen[batch].tolist() for batch in batches], 0.8))
    torch.testing.assert_close(flat(model), wanted, rtol=0, atol=1e-6)


def test_a_checkpoint_of_the_format_before_is_resumed_to_the_bit(tmp_path: Path) -> None:
    def run(folder: str, ckpt_path: Any = None) -> dict[str, Any]:
        averaging = ExponentialAveraging(0.8, update_every_n_steps=2)
        averaged_fit(seeded(Scripted), averaging, every_step(tmp_path / folder), max_epochs=2, ckpt_path=ckpt_path)
        return averaging.state_dict()

    whole = run("whole")
    old = torch.load(tmp_path / "whole" / "step=6.ckpt", weights_only=True)
    old["callbacks"]["ExponentialAveraging"] = {"latest_update_step": 5}
    torch.save(old, tmp_path / "old.ckpt")
    assert run("resumed", tmp_path / "old.ckpt") == whole == {"steps": 8}
    wanted, found = (torch.load(tmp_path / run / "step=8.ckpt", weights_only=True) for run in ("whole", "resumed"))
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert all(torch.equal(value, found[part][name]) for name, value in wanted[part].items())


def test_before_the_first_update_the_raw_weights_are_evaluated() -> None:
    model, weights = seeded(Scripted), Weights()
    averaged_fit(model, weights, ExponentialAveraging(0.8, update_starting_at_step=6), max_epochs=2)
    assert torch.equal(model.validated[0], weights.seen[3])
    assert not torch.equal(model.validated[1], weights.seen[7])

"""Averages of models whose tensors are not all 32-bit floating point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import swa_utils

from lightning_advdrop import ExponentialAveraging, NonMonotonicAveraging
from tests.helpers.averaging_models import STEPS_AN_EPOCH, Scripted, averaged_fit, every_step
from tests.helpers.plain_models import seeded

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")


class Indexed(Scripted):
    """Has buffers of each kind that is no number to be averaged, as language models have; writes down what it holds."""

    phase: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("position_ids", torch.arange(128))
        self.register_buffer("used", torch.tensor([True, False]))
        self.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
        self.evaluated: list[dict[str, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.phase += 1j
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.evaluated.append({name: value.clone() for name, value in self.named_buffers()})


AVERAGES = (
    pytest.param(lambda: ExponentialAveraging(0.95), id="exponential"),
    pytest.param(lambda: ExponentialAveraging(0.999, warmup=True), id="warm-up"),
    pytest.param(lambda: NonMonotonicAveraging(from_start=True), id="equal weights"),
)


@pytest.mark.parametrize("foreach", [False, True], ids=["one by one", "all at once"])
@pytest.mark.parametrize("made", AVERAGES)
def test_integers_are_the_models_everywhere(
    made: Any, foreach: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In validation, in checkpoints and after the fit; also on a GPU, where torch averages tensors all at once."""
    if foreach:
        monkeypatch.setattr(swa_utils, "_get_foreach_kernels_supported_devices", lambda: ["cpu"], raising=False)
    model, epochs = seeded(Indexed), 3
    averaged_fit(model, made(), every_step(tmp_path), max_epochs=epochs)
    saved = torch.load(tmp_path / f"step={epochs * STEPS_AN_EPOCH}.ckpt", weights_only=True)
    assert not torch.equal(saved["state_dict"]["head.weight"], saved["current_model_state"]["head.weight"])
    for state in (model.evaluated[-1], saved["state_dict"], saved["current_model_state"], model.state_dict()):
        assert torch.equal(state["position_ids"], torch.arange(128))
        assert torch.equal(state["used"], torch.tensor([True, False]))
        assert int(state["norm.num_batches_tracked"]) == epochs * STEPS_AN_EPOCH


def test_buffers_of_complex_numbers_are_averaged() -> None:
    """Of 1j to 4j, beside integers."""
    model = seeded(Indexed)
    averaged_fit(model, NonMonotonicAveraging(from_start=True), max_epochs=1)
    torch.testing.assert_close(model.evaluated[-1]["phase"], torch.full((2,), 2.5j))


def test_buffers_that_are_not_averaged_are_the_present_ones() -> None:
    """Also where the last update was some steps ago."""
    model = seeded(Indexed)
    averaged_fit(model, ExponentialAveraging(0.9, update_every_n_steps=3, use_buffers=False), max_epochs=2)
    assert complex(model.evaluated[-1]["phase"][0]) == 8j

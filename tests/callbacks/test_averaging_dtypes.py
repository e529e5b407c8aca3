"""Averages of models whose tensors are not all 32-bit floating point: integers, and weights of 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import swa_utils

from lightning_advdrop import ExponentialAveraging, NonMonotonicAveraging
from tests.helpers.averaging_models import (
    STEPS_AN_EPOCH,
    Scripted,
    Weights,
    averaged_fit,
    every_step,
    flat,
    flat_state,
)
from tests.helpers.plain_models import seeded
from tests.helpers.reference_averaging import mean_of, moving_average

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


def sixteen_bits(model: Scripted, *callbacks: Any, **trainer: Any) -> None:
    """Trains weights of 16 bits, and validates after each step."""
    averaged_fit(model, *callbacks, **{"precision": "bf16-true", "max_epochs": 4, "val_check_interval": 1, **trainer})


SIXTEEN = (
    pytest.param(lambda: ExponentialAveraging(0.999), lambda seen: moving_average(seen, 0.999), id="exponential"),
    pytest.param(
        lambda: ExponentialAveraging(0.999, warmup=True), lambda seen: moving_average(seen, 0.999, True), id="warm-up"
    ),
    pytest.param(lambda: NonMonotonicAveraging(from_start=True), mean_of, id="equal weights"),
)


@pytest.mark.parametrize(("made", "reference"), SIXTEEN)
def test_the_average_of_16_bit_weights_is_not_rounded(made: Any, reference: Any) -> None:
    """Neither when it is updated nor when it is evaluated, and the raw weights are trained as without it."""
    model, weights, plain, averaging = seeded(Scripted), Weights(), Weights(), made()
    sixteen_bits(model, weights, averaging)
    sixteen_bits(seeded(Scripted), plain)
    assert len(weights.seen) == 4 * STEPS_AN_EPOCH
    assert all(torch.equal(one, two) for one, two in zip(plain.seen, weights.seen, strict=True))
    wanted = torch.tensor(reference([each.tolist() for each in weights.seen]))
    torch.testing.assert_close(flat(averaging.average), wanted, rtol=0, atol=1e-6)
    assert flat(model).dtype == torch.bfloat16
    assert torch.equal(flat(model), flat(averaging.average).bfloat16())
    assert torch.equal(flat(model), model.validated[-1])


@pytest.fixture(scope="module")
def sixteen_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints after each step of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("sixteen")
    sixteen_bits(seeded(Scripted), ExponentialAveraging(0.999), every_step(folder))
    return folder


def test_checkpoints_hold_the_average_in_16_bits_and_in_32(sixteen_run: Path) -> None:
    model = Scripted()
    saved = torch.load(sixteen_run / "step=16.ckpt", weights_only=True)
    averaged, raw, precise = (
        flat_state(model, saved[part]) for part in ("state_dict", "current_model_state", "precise_average")
    )
    assert (averaged.dtype, raw.dtype, precise.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert torch.equal(averaged, precise.bfloat16())
    assert not torch.equal(averaged, raw)
    assert not torch.equal(averaged.float(), precise)


@pytest.mark.parametrize("precise", [True, False], ids=["as saved", "of the format before"])
def test_the_average_of_16_bit_weights_is_resumed_to_the_bit(precise: bool, sixteen_run: Path, tmp_path: Path) -> None:
    """A checkpoint without the average in 32 bits goes on with the one in 16."""
    saved = torch.load(sixteen_run / "step=7.ckpt", weights_only=True)
    if not precise:
        del saved["precise_average"]
    torch.save(saved, tmp_path / "from.ckpt")
    sixteen_bits(seeded(Scripted), ExponentialAveraging(0.999), every_step(tmp_path), ckpt_path=tmp_path / "from.ckpt")
    wanted, found = (torch.load(folder / "step=16.ckpt", weights_only=True) for folder in (sixteen_run, tmp_path))
    assert all(
        torch.equal(value, found["current_model_state"][name]) for name, value in wanted["current_model_state"].items()
    )
    same = [torch.equal(value, found["precise_average"][name]) for name, value in wanted["precise_average"].items()]
    assert all(same) == precise
    for name, value in wanted["precise_average"].items():
        torch.testing.assert_close(found["precise_average"][name], value, rtol=2**-8, atol=1e-6)

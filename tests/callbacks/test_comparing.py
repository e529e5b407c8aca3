"""What is compared: the prediction in an output, which call counts, and what is padding."""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_advdrop import AdversarialDropoutCallback
from lightning_advdrop.regularizers.predictions import find_target, select_prediction, select_target, select_weight
from tests.helpers.messages import refused
from tests.helpers.plain_models import CLASSES, FEATURES, PlainModel, fitted_weights, loader, quiet_trainer, seeded

PREDICTION, OTHER = torch.zeros(2, 3), torch.ones(2, 3)


class NamedPair(NamedTuple):
    features: Tensor
    prediction: Tensor


class Unnamed(NamedTuple):
    first: Tensor
    second: Tensor


@dataclasses.dataclass
class WithLogits:
    prediction: Tensor
    logits: Tensor


@dataclasses.dataclass
class WithoutNames:
    scores: Tensor
    state: Tensor


@pytest.mark.parametrize(
    ("output", "which"),
    [
        (PREDICTION, None),
        ((PREDICTION, OTHER), None),
        ([PREDICTION, OTHER], None),
        ({"x": OTHER, "prediction": PREDICTION}, None),
        ({"prediction": OTHER, "logits": PREDICTION}, None),
        (OrderedDict(loss=OTHER, logits=PREDICTION), None),
        (NamedPair(OTHER, PREDICTION), None),
        (Unnamed(PREDICTION, OTHER), None),
        (WithLogits(OTHER, PREDICTION), None),
        ((OTHER, PREDICTION), 1),
        ((OTHER, PREDICTION), -1),
        (Unnamed(OTHER, PREDICTION), "second"),
        (WithoutNames(PREDICTION, OTHER), "scores"),
        ({"x": OTHER, 7: PREDICTION}, 7),
        ({"x": [OTHER, PREDICTION]}, lambda output: output["x"][1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_prediction_is_found(output: Any, which: Any) -> None:
    assert select_prediction(output, which) is PREDICTION


@pytest.mark.parametrize(
    ("output", "which", "parts"),
    [
        ({"x": OTHER}, None, ("output=None", "(batch, ...)", "NoneType", "dict", "x")),
        (WithoutNames(OTHER, OTHER), None, ("output=None", "NoneType", "WithoutNames", "scores, state")),
        (Unnamed(OTHER, OTHER), "third", ("output='third'", "(batch, ...)", "NoneType", "Unnamed", "first, second")),
        ((OTHER, OTHER), 2, ("output=2", "(batch, ...)", "NoneType", "tuple", 2)),
        (torch.tensor([1, 2]), None, ("output=None", "torch.int64", "(2,)", "Tensor")),
        (torch.tensor(1.0), None, ("output=None", "torch.float32", "()", "Tensor", "squeeze()", "squeeze(-1)")),
        ("text", None, ("output=None", "NoneType", "str")),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_prediction_is_refused(output: Any, which: Any, parts: tuple[object, ...]) -> None:
    with refused(*parts):
        select_prediction(output, which)


def test_labels_are_found_in_batches_of_any_kind() -> None:
    for batch, which in (((OTHER, PREDICTION), 1), ({"y": PREDICTION}, "y"), (Unnamed(OTHER, PREDICTION), "second")):
        assert select_target(batch, which) is PREDICTION
    assert select_target((OTHER, (PREDICTION, None)), lambda batch: batch[1][0]) is PREDICTION
    with refused("target=1", "NoneType", "tuple"):
        select_target((OTHER,))


def test_an_example_of_a_batch_that_is_a_tensor_is_no_label() -> None:
    assert find_target(PREDICTION, 1) is None
    assert find_target(PREDICTION, lambda batch: batch[:, -1]) is not None
    with refused("target=1", "NoneType", "Tensor", "callable"):
        select_target(PREDICTION)
    with refused("padding_mask=0", "NoneType", "Tensor", "callable"):
        select_weight(PREDICTION, 0, PREDICTION)


@pytest.mark.parametrize(
    ("mask", "prediction", "expected"),
    [
        ((4,), (4, 3), (4,)),
        ((4,), (4,), (4,)),
        ((4,), (4, 5, 3), (4, 1)),
        ((4, 5), (4, 5, 3), (4, 5)),
        ((4, 5), (4, 5), (4, 5)),
        ((4, 5), (4, 5, 2, 3), (4, 5, 1)),
    ],
    ids=str,
)
def test_padding_is_aligned_with_the_prediction(
    mask: tuple[int, ...], prediction: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    batch = {"real": torch.ones(mask, dtype=torch.bool)}
    assert select_weight(batch, "real", torch.zeros(prediction)).shape == expected


@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        ({"x": OTHER}, ("padding_mask='real'", "(batch,)", "(batch, time)", 1, "NoneType", "dict", "x")),
        ({"real": torch.tensor(1.0)}, ("padding_mask='real'", "(batch,)", "(batch, time)", "torch.float32", "()")),
        ({"real": torch.ones(3, 2)}, ("padding_mask='real'", "(2, 3)", "(3, 2)")),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_padding_mask_is_refused(batch: Any, parts: tuple[object, ...]) -> None:
    with refused(*parts):
        select_weight(batch, "real", PREDICTION)


class Tagger(L.LightningModule):
    """One label for each time step, of sequences that are padded to one length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 8, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch["x"])[batch["real"]], batch["y"][batch["real"]])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def padded(real: int) -> DataLoader[Any]:
    x = torch.randn(8, 6, FEATURES, generator=torch.Generator().manual_seed(1))
    examples = [
        {
            "x": each,
            "y": torch.arange(6) % CLASSES,
            "real": torch.arange(6) < real,
            "example": torch.tensor(True),
        }
        for each in x
    ]
    return DataLoader(examples, batch_size=8)  # type: ignore[arg-type]


def divergence_of(real: int, **arguments: Any) -> float:
    # The search of the label would look at the module's own loss, which leaves padding out.
    settings: dict[str, Any] = {"search": "gradient", "start": "ones", "divergence": "ce", "target": "y"}
    callback = AdversarialDropoutCallback(rate=0.2, **settings, **arguments)
    trainer = quiet_trainer(callbacks=[callback], max_epochs=1)
    trainer.fit(seeded(Tagger), padded(real))
    return float(trainer.callback_metrics["advdrop/divergence"])


def test_padding_does_not_count() -> None:
    everything = divergence_of(6)
    assert divergence_of(6, padding_mask="real") == pytest.approx(everything, rel=1e-6)
    assert divergence_of(3, padding_mask="example") == pytest.approx(everything, rel=1e-6)
    assert divergence_of(3) == pytest.approx(everything, rel=1e-6)
    assert divergence_of(3, padding_mask=lambda batch: batch["real"]) != pytest.approx(everything, rel=1e-3)


class TwoCalls(PlainModel):
    """Compares two views of a batch."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        x, y = batch
        return F.cross_entropy(self(x), y) + F.cross_entropy(self(3 * x), y)


def test_one_of_several_calls_can_be_chosen() -> None:
    def divergence(call: int | None) -> float:
        callback = AdversarialDropoutCallback(divergence="ce", start="ones", rate=0.2, call=call, share_masks=True)
        trainer = quiet_trainer(callbacks=[callback], max_epochs=1, limit_train_batches=1)
        fit_seeded(trainer, seeded(TwoCalls))
        return float(trainer.callback_metrics["advdrop/divergence"])

    first, second, both = divergence(0), divergence(1), divergence(None)
    assert first != pytest.approx(second, rel=1e-3)
    assert both == pytest.approx((first + second) / 2, rel=1e-5)


def fit_seeded(trainer: L.Trainer, model: L.LightningModule) -> None:
    L.seed_everything(3, verbose=False)
    trainer.fit(model, loader())


def test_a_call_that_is_not_made_is_refused() -> None:
    with refused("call", "training_step", 0, 2, 2):
        fit_seeded(quiet_trainer(callbacks=[AdversarialDropoutCallback(call=2)]), seeded(TwoCalls))


class Regression(PlainModel):
    """Predicts one number for each example, without a last dimension of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x).squeeze(-1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return F.mse_loss(self(batch[0]), batch[1].float())


class TwoHeads(Regression):
    """Predicts a mean, and a deviation beside it."""

    def forward(self, x: Tensor) -> Any:
        mean = super().forward(x)
        return mean, 0 * mean

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        mean, deviation = self(batch[0])
        return F.gaussian_nll_loss(mean, batch[1].float(), deviation.exp())


@pytest.mark.parametrize(("output", "place"), [(None, "[0] of 2"), (0, "")])
def test_the_head_that_is_compared_of_several_is_told(
    output: int | None, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fitted_weights(seeded(TwoHeads), AdversarialDropoutCallback(rate=0.2, output=output), max_epochs=1)
    assert f"comparing TwoHeads output{place} (16,) as numbers (mse)" in caplog.text


class SeveralLabels(PlainModel):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        x, y = batch
        return F.binary_cross_entropy_with_logits(self(x), F.one_hot(y, CLASSES).float())


@pytest.mark.parametrize(("model", "divergence"), [(Regression, "mse"), (SeveralLabels, "bernoulli_kl")])
def test_regression_and_several_labels(model: type[PlainModel], divergence: Any) -> None:
    callback = AdversarialDropoutCallback(rate=0.2, divergence=divergence)
    found: list[float] = []
    callback.listeners.append(lambda penalty: found.append(penalty.value.item()))
    fitted_weights(seeded(model), callback)
    assert len(found) == 8
    assert min(found) > 0


def test_several_labels_may_be_the_target() -> None:
    callback = AdversarialDropoutCallback(
        rate=0.2, divergence="ce", target=lambda batch: F.one_hot(batch[1], CLASSES).float()
    )
    trainer = quiet_trainer(callbacks=[callback])
    trainer.fit(seeded(SeveralLabels), loader())
    assert trainer.callback_metrics["advdrop/divergence"] > 0

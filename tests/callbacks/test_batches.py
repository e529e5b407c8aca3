"""Labels and masks are read from batches that the step takes apart."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor
from lightning_advdrop.callbacks.batches import SteppedBatch
from tests.callbacks.test_comparing import Tagger
from tests.helpers.messages import refused
from tests.helpers.plain_models import CLASSES, FEATURES, quiet_trainer, seeded

KEYS = ("x", "y", "real")


class Keeps(Tagger):
    def parts(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        x, y, real = (batch[key] for key in KEYS)
        return x, y, real

    def loss(self, batch: Any) -> Tensor:
        x, y, real = self.parts(batch)
        return F.cross_entropy(self(x)[real], y[real])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch), batch_size=4)


class Pops(Keeps):
    def parts(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        x, y, real = (batch.pop(key) for key in KEYS)
        return x, y, real


class Clears(Keeps):
    def parts(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        parts = super().parts(batch)
        batch.clear()
        return parts


class Replaces(Keeps):
    def parts(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        parts = super().parts(batch)
        for key in KEYS:
            batch[key] = None
        return parts


class MixesLabels(Keeps):
    """What the step writes into the batch is what its loss is computed with."""

    def parts(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        batch["y"] = (batch["y"] + 1) % CLASSES
        return super().parts(batch)


class ComesMixed(Keeps):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {**batch, "y": (batch["y"] + 1) % CLASSES}


def sequences() -> DataLoader[Any]:
    x = torch.randn(8, 6, FEATURES, generator=torch.Generator().manual_seed(1))
    examples = [{"x": each, "y": torch.arange(6) % CLASSES, "real": torch.arange(6) < 4} for each in x]
    return DataLoader(examples, batch_size=4)  # type: ignore[arg-type]


def logged(model: type[Keeps], *callbacks: Any, **arguments: Any) -> list[float]:
    callbacks = (
        AdversarialDropoutCallback(rate=0.3, divergence="ce", **{"target": "y", "padding_mask": "real"} | arguments),
        InferenceGapMonitor(rate=0.3, padding_mask=arguments.get("padding_mask", "real")),
    )
    trainer = quiet_trainer(callbacks=list(callbacks), max_epochs=1)
    trainer.fit(seeded(model), sequences(), sequences())
    names = ("advdrop/divergence", "gap/random", "gap/adversarial", "val/loss")
    return [float(trainer.callback_metrics[name]) for name in names]


@pytest.mark.parametrize("model", [Pops, Clears, Replaces])
def test_what_a_step_removes_is_read_from_before_it(model: type[Keeps]) -> None:
    assert logged(model) == logged(Keeps)


def test_what_a_step_writes_counts() -> None:
    assert logged(MixesLabels)[0] == logged(ComesMixed)[0]
    assert logged(MixesLabels)[0] != logged(Keeps)[0]


def test_callables_are_called_once() -> None:
    calls = {"y": 0, "real": 0}

    def read(key: str) -> Any:
        def part(batch: Any) -> Any:
            found = batch[key]
            calls[key] += 1
            return found

        return part

    found = logged(Pops, target=read("y"), padding_mask=read("real"))
    assert found == logged(Keeps)
    assert calls == {"y": 2, "real": 3}  # two steps, and one of the monitor


def test_what_is_nowhere_is_refused() -> None:
    with refused("target='labels'", "dict"):
        logged(Pops, target="labels")


@dataclass
class Parts:
    x: Tensor
    y: Tensor | None


@pytest.mark.parametrize("wrap", [dict, UserDict], ids=["dict", "UserDict"])
def test_containers_are_copied_and_tensors_are_not(wrap: Any) -> None:
    tensor = torch.zeros(2)
    batch = [wrap({"y": tensor, "nested": [tensor]}), (tensor, [tensor])]
    stepped = SteppedBatch(batch)
    del batch[0]["y"]
    batch[1][1].clear()
    batch.pop(0)
    tensor.add_(1)
    assert stepped.read(lambda each: each[0]["y"]) is tensor
    assert stepped.read(lambda each: each[1][1][0]) is tensor
    with pytest.raises(IndexError):
        stepped.read(lambda each: each[2])


def test_attributes_are_read_from_before_and_iterators_left_alone() -> None:
    labels = torch.zeros(2)
    parts = Parts(torch.ones(2), labels)
    stepped = SteppedBatch(parts)
    parts.y = None
    assert stepped.read(lambda each: each.y.shape) == (2,)
    batches = iter([1, 2])
    SteppedBatch(batches)
    assert next(batches) == 1
    assert SteppedBatch(each for each in [3]).read(next) == 3

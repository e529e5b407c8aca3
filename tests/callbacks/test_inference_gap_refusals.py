"""What the monitor of the inference gap refuses, and what it says."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

from lightning_advdrop import InferenceGapMonitor
from tests.callbacks.test_inference_gap import Simple, fit
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer


class Inline(Simple):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        output, _ = self.lstm(batch[0])
        self.log("val/loss", self.head(output).sum())


def test_a_step_without_a_prediction_is_refused_and_the_module_left_as_it_was() -> None:
    model = Inline()
    before = dict(vars(model))
    message = (
        "module: validation_step must compute its prediction by calling a module that contains the masked layers "
        "(lstm), one of '', but none is called."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        quiet_trainer(callbacks=[InferenceGapMonitor()], num_sanity_val_steps=0).fit(model, loader(), loader())
    assert vars(model).keys() - before.keys() <= {"_hparams"}  # Lightning's own


def test_nothing_to_validate_is_said() -> None:
    with pytest.warns(UserWarning, match="looks at validation batches, and this trainer has none"):
        quiet_trainer(callbacks=[InferenceGapMonitor()], max_epochs=1).fit(PlainModel(), loader())


def test_a_network_without_sites_is_refused_before_it_is_trained() -> None:
    model = Simple()
    model.lstm = nn.Linear(4, 12)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="found nothing of the kind 'recurrent' in Simple"):
        fit(model, InferenceGapMonitor())
    with pytest.raises(ValueError, match="must be the path of a module around all masked layers, one of '', got 'h'"):
        fit(Simple(), InferenceGapMonitor(module="h"))


def test_strategies_that_shard_the_weights_are_refused() -> None:
    trainer: Any = SimpleNamespace(strategy=object.__new__(FSDPStrategy))
    with pytest.raises(MisconfigurationException, match="InferenceGapMonitor runs forward passes of its own"):
        InferenceGapMonitor().setup(trainer, Simple(), "fit")
    by_hand = Simple()
    by_hand.automatic_optimization = False
    with pytest.raises(MisconfigurationException, match="got strategy=FSDPStrategy, which shards them"):
        InferenceGapMonitor().setup(trainer, by_hand, "fit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sites": []}, "sites must name at least one place, got []."),
        ({"rate": -0.5}, "rate must be in [0, 1], got -0.5."),  # and whatever `inference_gap` refuses
        ({"limit_batches": 0}, "limit_batches must be at least 1, got 0."),
        ({"call": -1}, "call must be at least 0, or None for all calls, got -1."),
        ({"seed": -1}, "seed must be at least 0, got -1."),
    ],
    ids=str,
)
def test_arguments_are_checked_when_it_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        InferenceGapMonitor(**arguments)

"""What the monitor of the inference gap refuses, and what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

from lightning_advdrop import InferenceGapMonitor
from tests.helpers.messages import names, refused
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer
from tests.helpers.validated import Simple, fit


class Inline(Simple):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        output, _ = self.lstm(batch[0])
        self.log("val/loss", self.head(output).sum())


def test_a_step_without_a_prediction_is_refused_and_the_module_left_as_it_was() -> None:
    model = Inline()
    before = dict(vars(model))
    with refused("module", "validation_step", "(lstm)", "''"):
        quiet_trainer(callbacks=[InferenceGapMonitor()], num_sanity_val_steps=0).fit(model, loader(), loader())
    assert vars(model).keys() - before.keys() <= {"_hparams"}  # Lightning's own


def test_nothing_to_validate_is_said() -> None:
    with pytest.warns(UserWarning, match=names("InferenceGapMonitor", "validation_step", "limit_val_batches")):
        quiet_trainer(callbacks=[InferenceGapMonitor()], max_epochs=1).fit(PlainModel(), loader())


def test_a_network_without_sites_is_refused_before_it_is_trained() -> None:
    model = Simple()
    model.lstm = nn.Linear(4, 12)  # type: ignore[assignment]
    with refused("sites", "'recurrent'", "Simple"):
        fit(model, InferenceGapMonitor())
    with refused("module", "''", "'h'"):
        fit(Simple(), InferenceGapMonitor(module="h"))


def test_strategies_that_shard_the_weights_are_refused() -> None:
    trainer: Any = SimpleNamespace(strategy=object.__new__(FSDPStrategy))
    by_hand = Simple()
    by_hand.automatic_optimization = False
    for model in (Simple(), by_hand):
        with refused("InferenceGapMonitor", "strategy=FSDPStrategy", error=MisconfigurationException):
            InferenceGapMonitor().setup(trainer, model, "fit")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"sites": []}, ("sites", [])),
        ({"rate": -0.5}, ("rate", "[0, 1]", -0.5)),  # and whatever `inference_gap` refuses
        ({"limit_batches": 0}, ("limit_batches", 1, 0)),
        ({"call": -1}, ("call", 0, None, -1)),
        ({"seed": -1}, ("seed", 0, -1)),
    ],
    ids=str,
)
def test_arguments_are_checked_when_it_is_made(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        InferenceGapMonitor(**arguments)

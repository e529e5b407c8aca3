"""A fit in which no site takes part says why."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop import (
    AdversarialDropoutCallback,
    AdversarialTrainingCallback,
    RDropCallback,
    VirtualAdversarialCallback,
)
from lightning_advdrop.regularizers import AdversarialDropout
from tests.helpers.messages import refused
from tests.helpers.plain_models import PlainModel, fitted_weights


class InEvaluation(PlainModel):
    """As what `from_pretrained` of transformers returns."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout.eval()


@pytest.mark.filterwarnings("ignore:Found 1 module:UserWarning")
@pytest.mark.parametrize("method", [AdversarialDropoutCallback, RDropCallback])
def test_dropout_in_evaluation_mode_is_named_with_what_to_do(method: type) -> None:
    with pytest.raises(ValueError, match=r"none of dropout:dropout took part .* in evaluation mode .* call train\(\)"):
        fitted_weights(InEvaluation(), method(sites="dropout"))


class FrozenEncoder(PlainModel):
    """Runs its recurrent layer without gradients, and, if it is told to, once more with them."""

    def __init__(self, *, again: bool = False) -> None:
        super().__init__()
        self.again = again

    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            features, _ = self.lstm(x)
        if self.again:
            features = features + self.lstm(x)[0]
        return self.head(features[:, -1])


SEARCHES: tuple[Any, ...] = ("label", "top", "fisher", "gradient")


@pytest.mark.parametrize(
    "callback",
    [
        *(AdversarialDropoutCallback(rate=0.2, search=search) for search in SEARCHES),
        VirtualAdversarialCallback(sites="input"),
        AdversarialTrainingCallback(sites="input"),
    ],
    ids=lambda callback: f"{type(callback).__name__} {getattr(callback.regularizer, 'search', '')}",
)
def test_a_search_where_gradients_are_switched_off_is_refused(callback: L.Callback) -> None:
    with refused("sites", "ran under torch.no_grad()", "requires_grad_(False)"):
        fitted_weights(FrozenEncoder(), callback)


@pytest.mark.parametrize("method", [AdversarialDropoutCallback, VirtualAdversarialCallback])
def test_a_layer_that_runs_with_gradients_too_is_searched(method: type) -> None:
    fitted_weights(FrozenEncoder(again=True), method(sites="input"))


def test_random_masks_need_no_gradients() -> None:
    fitted_weights(FrozenEncoder(), RDropCallback(rate=0.2))


def test_other_sites_that_did_not_run_are_named() -> None:
    network = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Dropout(0.1), "other": nn.Dropout(0.1).eval()})

    with pytest.raises(ValueError, match=r"none of unused:dropout, .* took part .*, so there is nothing to mask\."):
        AdversarialDropout(rate=0.1)(lambda: network["used"](torch.ones(3, 2)), network, sites="dropout")

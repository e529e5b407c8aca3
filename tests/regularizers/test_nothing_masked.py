"""A fit in which no site takes part says why."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_advdrop import AdversarialDropoutCallback, RDropCallback
from lightning_advdrop.regularizers import AdversarialDropout
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


def test_other_sites_that_did_not_run_are_named() -> None:
    network = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Dropout(0.1), "other": nn.Dropout(0.1).eval()})

    with pytest.raises(ValueError, match=r"none of unused:dropout, .* took part .*, so there is nothing to mask\."):
        AdversarialDropout(rate=0.1)(lambda: network["used"](torch.ones(3, 2)), network, sites="dropout")

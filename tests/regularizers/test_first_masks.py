"""What acts in the base pass, and what it is drawn from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lightning_advdrop.masking import find_sites
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    ExpectationLinearDropout,
    FraternalDropout,
    RDrop,
    Regularizer,
    VariationalDropout,
)
from tests.helpers.models_recurrent import Tagger

BATCH, STEPS = 4, 5
MASKING: list[Callable[..., Regularizer]] = [VariationalDropout, FraternalDropout, RDrop, ExpectationLinearDropout]


@pytest.mark.parametrize(
    ("regularizer", "kind"),
    [
        *((method(rate=0.4), kind) for method in MASKING for kind in ("recurrent", "weight", "dropout")),
        *((AdversarialDropout(0.4, start="ones", search="fisher"), kind) for kind in ("recurrent", "dropout")),
        (AdversarialTraining(), "input"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_acts_in_the_base_pass_is_drawn_from_the_given_generator_alone(
    regularizer: Regularizer, kind: str
) -> None:
    """So that the network's own noise is that of plain training, and the other passes can replay it."""
    torch.manual_seed(0)
    model, x = Tagger(layers=2, dropout=0.3), torch.randn(BATCH, STEPS, 4)
    states = []
    for seed in (5, 6):
        torch.manual_seed(2)
        generator = torch.Generator().manual_seed(seed)
        recorded = regularizer.record(model, find_sites(model, kind), generator)
        with recorded.first_run():
            model(x)
        states.append(torch.get_rng_state())
    torch.manual_seed(2)
    model(x)
    assert all(torch.equal(state, torch.get_rng_state()) for state in states)

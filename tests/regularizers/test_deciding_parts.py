"""A prediction that the model's losses don't read: which part of the forward's output they read instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop.regularizers import LossWatch, decide
from tests.helpers.messages import refused

BATCH, CLASSES = 6, 3
LABELS = torch.arange(BATCH) % CLASSES
HEAD = nn.Linear(4, CLASSES)


def made() -> Tensor:
    """Features with a graph."""
    return torch.randn(BATCH, 4, requires_grad=True) * 2


def asked(prediction: Tensor, loss: Callable[[Tensor], Tensor], scores: Tensor, result: Any) -> None:
    """Decides how a prediction is compared, where a loss reads the scores and the forward returned the result."""
    with LossWatch() as watch:
        loss(scores)
    decide("auto", prediction, losses=watch.seen, result=result)


class Named(NamedTuple):
    features: Tensor
    scores: Tensor


@dataclass
class Held:
    features: Tensor
    scores: Tensor


OUTPUTS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "tuple": (lambda features, scores: (features, scores), "output=1"),
    "list": (lambda features, scores: [features, None, scores], "output=2"),
    "mapping": (lambda features, scores: {"features": features, "scores": scores}, "output='scores'"),
    "named tuple": (Named, "output='scores'"),
    "dataclass": (Held, "output='scores'"),
}
LOSSES: list[Callable[[Tensor], Tensor]] = [
    lambda scores: F.cross_entropy(scores, LABELS),
    lambda scores: F.nll_loss(scores.log_softmax(-1), LABELS),
    lambda scores: F.cross_entropy(scores[:, :2], LABELS.clamp(max=1)),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("of", OUTPUTS)
def test_the_part_of_the_output_that_the_loss_reads_is_suggested_first(
    of: str, loss: Callable[[Tensor], Tensor]
) -> None:
    make, expected = OUTPUTS[of]
    features = made()
    scores = HEAD(features)
    with refused("divergence='auto'", (BATCH, 4), "they read", expected, "or name divergence='kl'"):
        asked(features, loss, scores, make(features, scores))


def test_without_a_graph_the_part_itself_is_known() -> None:
    features, scores = torch.randn(BATCH, 4), torch.randn(BATCH, CLASSES)
    with refused("output=1, or name divergence='kl'"):
        asked(features, LOSSES[0], scores, (features, scores))


def test_no_part_is_suggested_in_place_of_what_was_made_of_several() -> None:
    mean, deviation = made(), made()
    both = torch.cat([mean, deviation], -1)
    with refused("something else (gaussian_nll_loss (6, 4)); name divergence='kl'", "'mse' for numbers"):
        asked(both, lambda scores: F.gaussian_nll_loss(scores, scores, deviation.exp()), mean, (mean, deviation))


def test_other_parts_are_mentioned_where_none_is_read() -> None:
    features = made()
    with refused("something else", "(output=)", "or name divergence='kl'"):
        asked(features, LOSSES[0], HEAD(features), (features, features + 1))
    for result in (features, (features,), (features, "text")):
        with refused("something else (cross_entropy (6, 3)); name divergence='kl'"):
            asked(features, LOSSES[0], HEAD(features), result)

"""Which dimension of an activation holds the examples, by the shapes, by layers and by gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking.examples import BatchEvidence, Examples, candidates
from lightning_advdrop.regularizers import AdversarialDropout
from tests.regularizers.test_examples import (
    BATCH,
    CLASSES,
    RATE,
    STEPS,
    WIDTH,
    Dropping,
    Forward,
    channels,
    frames,
    tagged_frames,
)


def reached(model: nn.Module, x: Tensor) -> Tensor:
    """Which examples of the prediction depend on which row of the only mask, ``(B, rows)``."""
    method = AdversarialDropout(RATE, divergence="mse", search="top")
    passes = method.first_pass(lambda: model(x), model, "dropout")
    ((site, mask),) = method.evaluate(passes).masks.items()
    leaf = mask.clone().requires_grad_()
    prediction = passes.run({site: leaf})
    found = []
    for example in range(len(x)):
        value = prediction[example].square().sum()
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
        found.append(site.as_rows(gradient).abs().amax(1) > 0)
    return torch.stack(found)


class Weighing(nn.Module):
    """A network whose only dropout is that of the weights of its attention."""

    def __init__(self, tags: bool) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(WIDTH, 2, 0.3, batch_first=True), nn.Linear(WIDTH, CLASSES)
        self.tags = tags

    def forward(self, x: Tensor) -> Any:
        y, _ = self.attention(x, x, x)
        return self.head(y if self.tags else y.mean(1))


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("steps", [BATCH, STEPS, 2 * BATCH])
def test_weights_of_attention_are_in_one_row_for_each_example(steps: int, tags: bool) -> None:
    """Weights ``(B * heads, L, S)``, also where there are as many steps as examples, or predictions for each step."""
    torch.manual_seed(0)
    found = reached(Weighing(tags), torch.randn(BATCH, steps, WIDTH))
    assert torch.equal(found, torch.eye(BATCH, dtype=torch.bool))


@pytest.mark.parametrize("layout", [frames, tagged_frames, channels])
def test_no_example_depends_on_a_row_of_another_one(layout: Forward) -> None:
    torch.manual_seed(0)
    x = torch.randn(BATCH, STEPS, WIDTH)
    found = reached(Dropping(layout), x)
    assert torch.equal(found, torch.eye(BATCH, dtype=torch.bool))


def test_layers_tell_which_dimension_does_not_hold_the_examples() -> None:
    """Sentences of documents, time first: there are as many words as documents, and each sentence is an example."""
    shape, sentences = (8, 24, 5), BatchEvidence(sequences={(8, 24), (3, 8)})
    assert [each.activation for each in candidates(shape, (8, 2), sentences)] == [Examples(shape, 1)]
    documents = candidates((24, 8, 5), (8, 2), sentences)
    assert [each.activation for each in documents] == [Examples((8, 3, 8, 5), 0), Examples((3, 8, 8, 5), 1)]


def test_layers_tell_where_the_prediction_holds_the_examples() -> None:
    """Then a first dimension that is as long as the prediction's settles nothing."""
    weights, prediction = (8, 8, 8), (8, 4, 6)
    found = candidates(weights, prediction, BatchEvidence(sequences={(8, 4)}))
    assert [each.activation for each in found] == [Examples((4, 2, 8, 8), 0), Examples((2, 4, 8, 8), 1)]
    assert {each.prediction for each in found} == {Examples(prediction, 1)}


def test_lengths_of_usual_layouts_leave_one_way() -> None:
    """So that they take no further pass."""
    nothing, layers = BatchEvidence(), BatchEvidence(sequences={(8, 4)})
    for activation, prediction, evidence in (
        ((4, 8, 5), (4, 3), nothing),
        ((4, 5), (4, 3), nothing),
        ((4, 7, 9, 9), (4, 3), nothing),
        ((4, 8, 5), (4, 8, 3), layers),
        ((8, 4, 5), (4, 3), layers),
        ((8, 4, 5), (8, 4, 3), layers),
        ((4, 5), (8, 4, 3), layers),
        ((7, 4, 5), (4, 3), nothing),
        ((1, 4, 5), (4, 3), nothing),
        ((4, 8, 5), (32, 3), layers),
    ):
        assert len(candidates(activation, prediction, evidence)) == 1

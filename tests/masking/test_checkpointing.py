"""Activation checkpointing, which runs a part of the forward again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_advdrop.masking import apply as apply_masks
from lightning_advdrop.masking import find_sites
from tests.helpers.messages import refused
from tests.helpers.recording import computed, halves, plain, record

each_variant = pytest.mark.parametrize("reentrant", [True, False])
share = pytest.mark.parametrize("share_noise", [True, False])
STEPS, BATCH = 5, 4
REFUSED = "torch.utils.checkpoint"


class Checkpointed(nn.Module):
    """A part before the recurrent layer, with noise and state, and either of them checkpointed, or nothing."""

    def __init__(self, parts: str, reentrant: bool) -> None:
        super().__init__()
        self.parts, self.reentrant = parts, reentrant
        self.below = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Dropout(0.5))
        self.layer = nn.GRU(3, 4, 2, dropout=0.5)
        self.double()

    def call(self, name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if name not in self.parts:
            return function(x)
        output: Tensor = checkpoint(function, x, use_reentrant=self.reentrant)
        return output

    def forward(self, x: Tensor) -> Tensor:
        x = self.call("below", self.below, x.flatten(0, 1)).view_as(x)
        return self.call("layer", lambda y: self.layer(y)[0], x)


def batch() -> Tensor:
    return torch.randn(STEPS, BATCH, 3, dtype=torch.float64, requires_grad=True)


@each_variant
@share
@pytest.mark.parametrize("kind", ["recurrent", "weight", "input", "hidden", "output", "dropout"])
def test_a_site_in_a_checkpointed_part_is_refused(kind: str, share_noise: bool, reentrant: bool) -> None:
    model, x = Checkpointed("below" if kind == "dropout" else "layer", reentrant), batch()
    name = find_sites(model, kind)[0].name
    with refused("sites", name, REFUSED):
        record(model, lambda: model(x), kind, share_noise=share_noise)


@each_variant
def test_a_mask_in_a_checkpointed_part_is_refused(reentrant: bool) -> None:
    model, x = Checkpointed("layer", reentrant), batch()
    (site,) = find_sites(model, "layer:output")
    with refused("sites", "layer:output", REFUSED), apply_masks(model, {site: site.ones(4)}):
        model(x)


def outputs_and_gradients(parts: str, share_noise: bool, reentrant: bool) -> list[Any]:
    torch.manual_seed(0)
    model, x = Checkpointed(parts, reentrant), batch()
    recorded, base = record(model, lambda: model(x), share_noise=share_noise)
    masks = halves(recorded)
    outputs = [base, *(recorded.run(lambda: model(x), masks) for _ in range(2))]
    torch.autograd.backward(torch.stack(outputs).square().sum())
    return [*outputs, *(parameter.grad for parameter in model.parameters()), x.grad]


@each_variant
@share
def test_checkpointing_elsewhere_gives_the_gradients_without_it(share_noise: bool, reentrant: bool) -> None:
    found, expected = (outputs_and_gradients(parts, share_noise, reentrant) for parts in ("below", ""))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_results_of_a_checkpointed_part_are_not_kept() -> None:
    model, x = Checkpointed("below", False), batch()
    recorded, _ = record(model, lambda: model(x))
    masks = halves(recorded)
    assert [computed(recorded, lambda: model(x), masks, "linear") for _ in range(3)] == [(1,)] * 3


@each_variant
@pytest.mark.parametrize("parts", ["below", "layer"])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_dropout_can_be_switched_off_there_without_gradients_only(parts: str, reentrant: bool) -> None:
    model, x = Checkpointed(parts, reentrant), batch()
    model.below[1] = nn.Identity()
    elsewhere = "layer:output" if parts == "below" else "below:dropout"
    recorded, _ = record(model, lambda: model(x), elsewhere)
    with refused("dropout=False", REFUSED):
        recorded.run(lambda: model(x), {}, dropout=False)
    with torch.no_grad():
        without = recorded.run(lambda: model(x), {}, dropout=False)
    torch.testing.assert_close(without, model.eval()(x), rtol=1e-10, atol=1e-10)


class Attending(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        attention = nn.functional.scaled_dot_product_attention
        output: Tensor = checkpoint(lambda y: attention(y, y, y, dropout_p=0.5), x, use_reentrant=False)
        return output


def test_dropout_of_attention_there() -> None:
    model, x = nn.ModuleDict({"a": Attending(), "d": nn.Dropout(0.5)}), torch.randn(2, 3, 4, requires_grad=True)
    with refused("sites", "a:dropout", REFUSED):
        record(model, lambda: model["a"](x), "dropout")
    recorded, base = record(model, lambda: model["d"](model["a"](x)), "d:dropout")
    assert torch.equal(base, plain(lambda: model["d"](model["a"](x))))
    with refused("dropout=False", REFUSED):
        recorded.run(lambda: model["d"](model["a"](x)), {}, dropout=False)

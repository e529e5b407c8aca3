"""Recurrent cells in a model's own loop: the same mask at every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import RecordedForward, find_sites
from lightning_advdrop.masking import apply as apply_masks
from tests.helpers.messages import refused
from tests.helpers.models_recurrent import random_mask
from tests.helpers.reference_recurrent import State, reference_step

STEPS, BATCH, FEATURES, UNITS = 4, 3, 2, 5
each_kind = pytest.mark.parametrize("kind", ["lstm", "gru", "tanh", "relu"])


class Loop(nn.Module):
    """Two cells, the second one above the first."""

    def __init__(self, kind: str, bias: bool = True) -> None:
        super().__init__()
        self.kind = kind
        self.lower, self.upper = self.cell(FEATURES, bias), self.cell(UNITS, bias)
        self.double()

    def cell(self, features: int, bias: bool) -> nn.RNNCellBase:
        if self.kind in {"tanh", "relu"}:
            return nn.RNNCell(features, UNITS, bias, self.kind)
        return {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[self.kind](features, UNITS, bias)

    def forward(self, x: Tensor) -> Tensor:  # (T, B, features)
        below: Any = None
        above: Any = None
        outputs = []
        for step in x.unbind(0):
            below = self.lower(step, below)
            above = self.upper(below[0] if self.kind == "lstm" else below, above)
            outputs.append(above[0] if self.kind == "lstm" else above)
        return torch.stack(outputs)


def by_hand(model: Loop, x: Tensor, masks: dict[str, Tensor]) -> Tensor:
    """The model's output, an example and a step at a time; weight masks are multiplied onto the weights."""
    cells: dict[str, dict[str, Tensor]] = {}
    for name, cell in (("lower", model.lower), ("upper", model.upper)):
        weights: dict[str, Tensor] = dict(cell.named_parameters())
        weight_mask = masks.get(f"{name}:weight")
        cells[name] = weights if weight_mask is None else {**weights, "weight_hh": weights["weight_hh"] * weight_mask}
    ones = torch.ones(BATCH, UNITS, dtype=torch.float64)
    recurrent = {name: masks.get(f"{name}:recurrent", ones) for name in cells}
    rows = []
    for b in range(x.shape[1]):
        start = (torch.zeros(UNITS, dtype=torch.float64),) * (2 if model.kind == "lstm" else 1)
        states: dict[str, State] = dict.fromkeys(cells, start)
        for step in x[:, b]:
            given = step
            for name, weights in cells.items():
                states[name] = reference_step(model.kind, given, states[name], recurrent[name][b], weights)
                given = states[name][0]
            rows.append(given)
    return torch.stack(rows).view(BATCH, STEPS, UNITS).transpose(0, 1)


@each_kind
@pytest.mark.parametrize(
    ("specs", "bias"),
    [("recurrent", True), ("weight", False), ("upper:recurrent", False), (["recurrent", "lower:weight"], True)],
)
def test_the_same_mask_acts_at_every_step(kind: str, bias: bool, specs: Any) -> None:
    model, x = Loop(kind, bias), torch.randn(STEPS, BATCH, FEATURES, dtype=torch.float64)
    masks = {site: random_mask(*site.shape(BATCH)).requires_grad_() for site in find_sites(model, specs)}
    with apply_masks(model, masks):
        output = model(x)
    expected = by_hand(model, x, {site.name: mask for site, mask in masks.items()})
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    leaves = [*masks.values(), *model.parameters()]
    found, wanted = (torch.autograd.grad(y.square().sum(), leaves) for y in (output, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@each_kind
def test_a_run_with_ones_is_the_base_pass(kind: str) -> None:
    model, x = Loop(kind), torch.randn(STEPS, BATCH, FEATURES, dtype=torch.float64)
    recorded = RecordedForward(model, find_sites(model, ["recurrent", "weight"]), share_noise=True)
    with recorded.first_run():
        base = model(x)
    ones = {site: seen.ones() for site, seen in recorded.observed.items()}
    assert {site.name: tuple(mask.shape) for site, mask in ones.items()} == {
        f"{name}:{place}": shape
        for name in ("lower", "upper")
        for place, shape in (("recurrent", (3, 5)), ("weight", tuple(model.get_parameter(f"{name}.weight_hh").shape)))
    }
    torch.testing.assert_close(recorded.run(lambda: model(x), ones), base, rtol=1e-10, atol=1e-10)


@each_kind
def test_a_cell_without_a_batch(kind: str) -> None:
    model = Loop(kind)
    x, h = (torch.randn(size, dtype=torch.float64) for size in (FEATURES, UNITS))
    (site,) = find_sites(model, "lower:recurrent")
    mask = random_mask(1, UNITS)
    state = (h, h) if kind == "lstm" else h
    with apply_masks(model, {site: mask}):
        output = model.lower(x, state)
    expected = reference_step(
        kind, x, (h, h) if kind == "lstm" else (h,), mask[0], dict(model.lower.named_parameters())
    )
    torch.testing.assert_close(output[0] if kind == "lstm" else output, expected[0], rtol=1e-10, atol=1e-10)


def test_cells_have_one_mask_for_all_steps() -> None:
    model, x = Loop("gru"), torch.randn(STEPS, BATCH, FEATURES, dtype=torch.float64)
    (site,) = find_sites(model, "lower:recurrent")
    with refused("masks", site.name, (3, 5), (4, 3, 5)), apply_masks(model, {site: random_mask(STEPS, BATCH, UNITS)}):
        model(x)

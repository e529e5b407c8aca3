"""Runs with and without gradients, and under lower precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import RecordedForward
from tests.helpers.models_recurrent import Stack, parameter_gradients
from tests.helpers.recording import halves, record, references

share = pytest.mark.parametrize("share_noise", [True, False])
each_mode = pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
KINDS = ["recurrent", "weight", "embedding", "input", "hidden", "output", "dropout"]


def words() -> Tensor:
    return torch.randint(1, 9, (5, 3))


def assert_all_have_gradients(output: Tensor, model: nn.Module) -> None:
    gradients = parameter_gradients(output.square().sum(), model)
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())


def recorded_under(mode: Any, model: nn.Module, x: Tensor, kind: str, share_noise: bool) -> RecordedForward:
    with mode():
        return record(model, lambda: model(x), kind, share_noise=share_noise)[0]


@share
@each_mode
def test_results_without_a_graph_are_not_handed_back_to_a_run_that_needs_one(mode: Any, share_noise: bool) -> None:
    model, x = Stack(), words()
    recorded = recorded_under(mode, model, x, "upper:recurrent", share_noise)
    assert_all_have_gradients(recorded.run(lambda: model(x), references(recorded)), model)


@share
@each_mode
def test_gradients_come_and_go_between_runs(mode: Any, share_noise: bool) -> None:
    model, x = Stack().double(), words()
    recorded = recorded_under(torch.enable_grad, model, x, "upper:recurrent", share_noise)
    masks, outputs = halves(recorded), []
    for needed in (True, False, True, False, False, True):
        with torch.enable_grad() if needed else mode():
            outputs.append(recorded.run(lambda: model(x), masks))
        assert outputs[-1].requires_grad == needed
        if needed:
            assert_all_have_gradients(outputs[-1], model)
    for output in outputs:
        torch.testing.assert_close(output.clone(), outputs[0].detach(), rtol=1e-10, atol=1e-10)


@share
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_runs_under_bfloat16(kind: str, layer: Any, share_noise: bool) -> None:
    model, x = Stack(layer=layer), words()

    def forward() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = model(x)
        return logits

    recorded, base = record(model, forward, kind, share_noise=share_noise)
    masks = {site: seen.ones().requires_grad_() for site, seen in recorded.observed.items()}
    probe = recorded.run(forward, masks)
    gradients = torch.autograd.grad(probe.float().square().sum(), list(masks.values()))
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)
    with torch.no_grad():
        recorded.run(forward, references(recorded))
    again = recorded.run(forward, references(recorded))
    if share_noise:
        torch.testing.assert_close(again, base, rtol=0.05, atol=0.05)
    assert_all_have_gradients(again.float(), model)


def test_attention_under_bfloat16() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
    x = torch.randn(3, 5, 8)

    def forward() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output: Tensor = model(x)
        return output

    recorded, base = record(model, forward, "dropout")
    torch.testing.assert_close(recorded.run(forward, references(recorded)), base)
    masks = {site: seen.reference().requires_grad_() for site, seen in recorded.observed.items()}
    given = {site: site.rescale(mask) for site, mask in masks.items()}
    gradients = torch.autograd.grad(recorded.run(forward, given).float().square().sum(), list(masks.values()))
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)

"""Differentiating a masked layer twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import apply, find_sites
from tests.helpers.messages import refused


def gradient(kind: str, *, linear: bool, mask: Tensor | None = None) -> tuple[Tensor, nn.Module]:
    """The gradient of a value of the layer with respect to its input, with a graph."""
    torch.manual_seed(0)
    layer, x = nn.LSTM(3, 4), torch.randn(5, 2, 3, requires_grad=True)
    (site,) = find_sites(layer, kind)
    ones: Any = site.ones(2) if mask is None else mask
    with apply(layer, {site: ones}):
        output, _ = layer(x)
    value = output.sum() if linear else output.square().sum()
    return torch.autograd.grad(value, x, create_graph=True)[0], layer


@pytest.mark.parametrize("linear", [True, False])
def test_a_second_gradient_through_a_masked_layer_is_refused(linear: bool) -> None:
    """Also where the incoming gradient is a constant, with which torch's own decorator returns a constant."""
    found, layer = gradient("recurrent", linear=linear)
    with refused("sites", "once", "create_graph=True", "'input'", error=RuntimeError):
        torch.autograd.grad(found.square().sum(), list(layer.parameters()))


@pytest.mark.parametrize("kind", ["input", "output"])
def test_other_sites_leave_the_layer_to_torch(kind: str) -> None:
    found, layer = gradient(kind, linear=False)
    second = torch.autograd.grad(found.square().sum(), list(layer.parameters()))
    plain = nn.LSTM(3, 4)
    plain.load_state_dict(layer.state_dict())
    torch.manual_seed(0)
    nn.LSTM(3, 4)
    x = torch.randn(5, 2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(plain(x)[0].square().sum(), x, create_graph=True)
    expected = torch.autograd.grad(first.square().sum(), list(plain.parameters()))
    for a, b in zip(second, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_one_gradient_with_a_graph_is_what_it_is_without() -> None:
    with_graph, layer = gradient("recurrent", linear=False)
    torch.manual_seed(0)
    nn.LSTM(3, 4)
    x = torch.randn(5, 2, 3, requires_grad=True)
    (site,) = find_sites(layer, "recurrent")
    with apply(layer, {site: site.ones(2)}):
        value = layer(x)[0].square().sum()
    assert torch.equal(with_graph, torch.autograd.grad(value, x)[0])

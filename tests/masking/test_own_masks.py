"""Models that mask a `MaskedLSTM` themselves, run again under more masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.masking import RecordedForward, apply, find_sites
from lightning_advdrop.nn import MaskedLSTM


class Stack(nn.Module):
    """A layer with a mask of its own below a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedLSTM(3, 4)
        self.between = nn.Linear(4, 4)
        self.second = nn.LSTM(4, 5)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        own = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=x.dtype).expand(x.shape[1], 4)
        hidden, _ = self.first(x, recurrent_mask=own)
        output: Tensor = self.second(self.between(hidden))[0]
        return output


@pytest.mark.parametrize("share_noise", [False, True])
@pytest.mark.parametrize("spec", ["first:recurrent", "second:recurrent", "first:weight", "recurrent"])
def test_another_run_has_the_gradients_of_a_single_one(spec: str, share_noise: bool) -> None:
    model, x = Stack(), torch.randn(6, 2, 3, dtype=torch.float64)
    sites = find_sites(model, spec)
    recorded = RecordedForward(model, sites, share_noise=share_noise)
    with recorded.first_run():
        model(x)
    ones = {site: site.ones(2).requires_grad_() for site in sites}
    probe = recorded.run(lambda: model(x), ones, needs_parameter_gradients=False)
    torch.autograd.grad(probe.square().sum(), list(ones.values()))
    masks = {site: site.sample(2, 0.5) for site in sites}
    again = recorded.run(lambda: model(x), masks)
    with apply(model, masks):
        expected = model(x)
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-12)
    parameters = list(model.parameters())
    found = torch.autograd.grad(again.square().sum(), parameters)
    for one, other in zip(found, torch.autograd.grad(expected.square().sum(), parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)

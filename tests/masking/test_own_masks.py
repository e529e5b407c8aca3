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
    probe = recorded.run(lambda: model(x), ones)
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


class Twice(nn.Module):
    """Two layers in both directions; a mask of the model's own on the recurrent connections of some of them."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.lstm = MaskedLSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.5)
        self.own = [FIRST, None, FIRST, None] if own else None
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.lstm(x, recurrent_mask=self.own)[0]
        return output


FIRST = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
EVERY_KIND = ["recurrent", "weight", "input", "hidden", "output"]


@pytest.mark.parametrize("kinds", [*([kind] for kind in EVERY_KIND), EVERY_KIND], ids=str)
def test_every_kind_of_site_is_met_and_acts_beside_the_models_own_masks(kinds: list[str]) -> None:
    """As in the stock layer, where the product of both masks acts."""
    torch.manual_seed(0)
    model, plain = Twice(own=True), Twice(own=False)
    plain.load_state_dict(model.state_dict())
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    sites, stock_sites = (find_sites(each, [*kinds, "recurrent"]) for each in (model, plain))
    masks = [site.sample(2, 0.5) for site in sites]
    own = {"lstm.l0:recurrent": FIRST, "lstm.l1:recurrent": FIRST}
    both = {site: mask * own.get(site.name, 1.0) for site, mask in zip(stock_sites, masks, strict=True)}
    recorded = RecordedForward(model, sites, share_noise=True)
    torch.manual_seed(1)
    with recorded.first_run():
        base = model(x)
    assert {site.name for site in recorded.observed} == {site.name for site in sites}
    torch.testing.assert_close(recorded.run(lambda: model(x), {}), base)
    found = recorded.run(lambda: model(x), dict(zip(sites, masks, strict=True)))
    torch.manual_seed(1)
    with apply(plain, both):
        expected = plain(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_dropout_between_layers_under_masks_of_ones_own_can_be_switched_off() -> None:
    torch.manual_seed(0)
    model, x = Twice(own=True), torch.randn(6, 2, 3, dtype=torch.float64)
    recorded = RecordedForward(model, find_sites(model), share_noise=True)
    with recorded.first_run():
        model(x)
    found = recorded.run(lambda: model(x), {}, dropout=False)
    torch.testing.assert_close(found, model.eval()(x))

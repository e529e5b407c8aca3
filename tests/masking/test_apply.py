"""What a forward of an LSTM computes under masks, against the masked layer; see `test_apply_layers` for all layouts."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from lightning_advdrop.masking import apply as apply_masks
from lightning_advdrop.masking import find_sites
from lightning_advdrop.nn import MaskedLSTM
from tests.helpers.models_recurrent import random_mask

LAYOUTS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]
STEPS, BATCH, FEATURES, UNITS = 6, 4, 3, 5


def masked_pair(layout: dict[str, Any]) -> tuple[nn.LSTM, MaskedLSTM]:
    plain = nn.LSTM(FEATURES, UNITS, **layout).double()
    masked = MaskedLSTM(FEATURES, UNITS, **layout).double()
    masked.load_state_dict(plain.state_dict())
    return plain, masked


def flat(result: Any) -> list[Tensor]:
    output, (h_n, c_n) = result
    return [output.data if isinstance(output, PackedSequence) else output, h_n, c_n]


def assert_same(first: Any, second: Any, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    for a, b in zip(flat(first), flat(second), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def padded_input(layout: dict[str, Any]) -> Tensor:
    shape = (BATCH, STEPS, FEATURES) if layout.get("batch_first") else (STEPS, BATCH, FEATURES)
    return torch.randn(*shape, dtype=torch.float64)


def test_an_initial_state_and_a_subset_of_the_sites() -> None:
    plain, masked = masked_pair({"num_layers": 2, "bidirectional": True})
    x, mask = padded_input({}), random_mask(BATCH, UNITS)
    state = random_mask(4, BATCH, UNITS), random_mask(4, BATCH, UNITS)
    (site,) = find_sites(plain, "l1_reverse:recurrent")
    with apply_masks(plain, {site: mask}):
        result = plain(x, state)
    assert_same(result, masked(x, state, recurrent_mask=[None, None, None, mask]))


def test_gradients_reach_masks_and_parameters() -> None:
    plain, masked = masked_pair({"num_layers": 2})
    x = padded_input({}).requires_grad_()
    ours = {site: random_mask(BATCH, UNITS).requires_grad_() for site in find_sites(plain)}
    with apply_masks(plain, ours):
        output = plain(x)[0]
    theirs = [mask.detach().clone().requires_grad_() for mask in ours.values()]
    expected = masked(x, recurrent_mask=theirs)[0]
    first = torch.autograd.grad(output.square().sum(), [x, *ours.values(), *plain.parameters()])
    second = torch.autograd.grad(expected.square().sum(), [x, *theirs, *masked.parameters()])
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        assert a.abs().sum() > 0


def test_gradients_reach_weight_masks() -> None:
    plain, _ = masked_pair({})
    (site,) = find_sites(plain, "weight")
    x, mask = padded_input({}), random_mask(4 * UNITS, UNITS).requires_grad_()

    def loss(mask: Tensor) -> Tensor:
        with apply_masks(plain, {site: mask}):
            value: Tensor = plain(x)[0].square().sum()
        return value

    assert torch.autograd.gradcheck(loss, (mask,))
    (gradient,) = torch.autograd.grad(loss(mask), [plain.get_parameter("weight_hh_l0")])
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_of_ones_change_nothing(layout: dict[str, Any]) -> None:
    plain = nn.LSTM(FEATURES, UNITS, **layout)
    x = padded_input(layout).float()
    with apply_masks(plain, {site: site.ones(BATCH) for site in find_sites(plain, ["recurrent", "weight"])}):
        result = plain(x)
    assert_same(result, plain(x), rtol=1e-5, atol=1e-6)


def test_no_masks_change_nothing() -> None:
    plain, x = nn.LSTM(FEATURES, UNITS), padded_input({}).float()
    with apply_masks(plain, {}):
        result = plain(x)
    assert_same(result, plain(x), rtol=0, atol=0)


def test_an_lstm_called_twice_is_masked_both_times() -> None:
    plain, masked = masked_pair({})
    (site,) = find_sites(plain)
    x, mask = padded_input({}), random_mask(BATCH, UNITS)
    with apply_masks(plain, {site: mask}):
        first = plain(x)
        second = plain(x.flip(0), first[1])
    expected = masked(x, recurrent_mask=mask)
    assert_same(first, expected)
    assert_same(second, masked(x.flip(0), expected[1], recurrent_mask=mask))


@pytest.mark.parametrize("lengths", [None, [6, 4, 4, 1], [2, 6, 1, 5]])
def test_masks_combine_with_those_of_the_model_itself(lengths: list[int] | None) -> None:
    _, masked = masked_pair({"num_layers": 2})
    x: Any = padded_input({})
    if lengths:
        x = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    sites, own = find_sites(masked), random_mask(BATCH, UNITS)
    masks = {site: random_mask(BATCH, UNITS) for site in sites}
    with apply_masks(masked, masks):
        result = masked(x, recurrent_mask=[own, None])
    first, second = (masks[site] for site in sites)
    assert_same(result, masked(x, recurrent_mask=[own * first, second]))


def test_weight_masks_combine_with_a_recurrent_mask_of_the_model_itself() -> None:
    _, masked = masked_pair({})
    by_hand = copy.deepcopy(masked)
    (site,) = find_sites(masked, "weight")
    x, own, weight = padded_input({}), random_mask(BATCH, UNITS), random_mask(4 * UNITS, UNITS)
    with torch.no_grad():
        by_hand.get_parameter("weight_hh_l0").mul_(weight)
    with apply_masks(masked, {site: weight}):
        result = masked(x, recurrent_mask=own)
    assert_same(result, by_hand(x, recurrent_mask=own))


def test_the_forward_of_a_subclass_is_seen() -> None:
    class Halved(nn.LSTM):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - the name is torch's
            return super().forward(input * 0.5, hx)

    plain, masked = masked_pair({})
    halved = Halved(FEATURES, UNITS).double()
    halved.load_state_dict(plain.state_dict())
    (site,) = find_sites(halved)
    x, mask = padded_input({}), random_mask(BATCH, UNITS)
    with apply_masks(halved, {site: mask}):
        result = halved(x)
    assert_same(result, masked(x * 0.5, recurrent_mask=mask))

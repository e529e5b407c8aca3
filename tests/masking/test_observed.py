"""What is known of each site after a first run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_advdrop.masking import MaskSite, Observation
from tests.helpers.messages import refused
from tests.helpers.recording import by_name, record

KINDS = ["recurrent", "weight", "input", "hidden", "output"]
LAYER: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
MASKS = {
    "l0:recurrent": (3, 5),
    "l1_reverse:recurrent": (3, 5),
    ":input": (3, 1, 4),
    "l1:hidden": (3, 1, 10),
    ":output": (3, 1, 10),
}


def observed(layer: nn.Module, x: Any, kinds: Any = KINDS) -> dict[str, Observation]:
    recorded, _ = record(layer, lambda: layer(x), kinds)
    return by_name(recorded)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_padded_input(layer: Any, batch_first: bool) -> None:
    seen = observed(layer(4, 5, batch_first=batch_first, **LAYER), torch.randn((3, 7, 4) if batch_first else (7, 3, 4)))
    rows = (3, 7) if batch_first else (7, 3)
    assert {name: seen[name].shape for name in MASKS} == MASKS
    assert {name: seen[name].activation for name in MASKS} == {
        "l0:recurrent": (3, 5),
        "l1_reverse:recurrent": (3, 5),
        ":input": (*rows, 4),
        "l1:hidden": (*rows, 10),
        ":output": (*rows, 10),
    }
    assert {seen[name].batch_dim for name in (":input", "l1:hidden", ":output")} == {0 if batch_first else 1}
    assert {name: part.steps for name, part in seen.items() if part.steps is not None} == {
        f"l{place}:recurrent": 7 for place in ("0", "0_reverse", "1", "1_reverse")
    }
    assert all(part.batch_sizes is None and part.mask is None and part.applied is None for part in seen.values())


def test_packed_input() -> None:
    packed = pack_padded_sequence(torch.randn(7, 3, 4), torch.tensor([2, 7, 4]), enforce_sorted=False)
    seen = observed(nn.GRU(4, 5, **LAYER), packed)
    assert {name: seen[name].shape for name in MASKS} == MASKS
    assert seen[":input"].activation == (13, 4)
    assert seen["l1:hidden"].activation == seen[":output"].activation == (13, 10)
    assert seen[":input"].batch_sizes == [3, 3, 2, 2, 1, 1, 1]


def test_projections() -> None:
    seen = observed(nn.LSTM(4, 5, proj_size=2, **LAYER).double(), torch.randn(7, 3, 4).double())
    shapes = {"l0:recurrent": (3, 2), "l0:weight": (20, 2), "l1:hidden": (3, 1, 4), ":output": (3, 1, 4)}
    assert {name: seen[name].shape for name in shapes} == shapes


def test_sites_that_did_not_take_part_are_missing() -> None:
    model = nn.ModuleDict({"used": nn.GRU(4, 5), "unused": nn.GRU(4, 5), "table": nn.Embedding(3, 4)})
    recorded, _ = record(model, lambda: model["used"](torch.randn(7, 3, 4)), ["recurrent", "embedding", "input"])
    assert list(by_name(recorded)) == ["used.l0:recurrent", "used:input"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_of_an_observation(dtype: torch.dtype) -> None:
    layer = nn.LSTM(4, 50, dtype=dtype)
    seen = observed(layer, torch.randn(7, 20, 4, dtype=dtype), "recurrent")["l0:recurrent"]
    generator = torch.Generator().manual_seed(1)
    before = torch.get_rng_state()
    masks = {
        (20, 50): [seen.ones(), seen.sample(0.3, generator), seen.reference()],
        (7, 20, 50): [seen.ones(per_step=True), seen.sample(0.3, generator, per_step=True)],
    }
    for shape, group in masks.items():
        assert all(tuple(mask.shape) == shape and mask.dtype is dtype for mask in group)
        assert group[0].all()
        assert 0.2 < (group[1] == 0).float().mean() < 0.4
    assert torch.equal(seen.reference(per_step=True), seen.ones(per_step=True))
    assert torch.equal(before, torch.get_rng_state())
    with refused("rate", "[0, 1]", 2):
        seen.sample(2)


def test_sites_without_steps_have_no_mask_for_each() -> None:
    seen = observed(nn.LSTM(4, 5, 2), torch.randn(7, 3, 4))["l1:hidden"]
    assert seen.ones(per_step=True).shape == (3, 1, 5)


def test_a_reference_at_a_dropout_is_drawn_as_the_network_draws() -> None:
    model = nn.Dropout(0.3)
    recorded, _ = record(model, lambda: model(torch.ones(100, 100)), "dropout", share_noise=False)
    (seen,) = recorded.observed.values()
    assert (seen.reference() == 0).float().mean() == pytest.approx(0.3, abs=0.025)


def test_own_masks_are_kept_and_the_rest_is_not() -> None:
    model, x = nn.ModuleDict({"d": nn.Dropout(0.5), "gru": nn.GRU(4, 5)}), torch.ones(7, 3, 4)
    recorded, base = record(model, lambda: model["gru"](model["d"](x))[0], ["dropout", "recurrent"])
    seen = by_name(recorded)
    mask = seen["d:dropout"].mask
    assert mask is not None
    torch.testing.assert_close(model["gru"](mask * 2)[0], base)
    assert seen["gru.l0:recurrent"].mask is None
    assert not mask.requires_grad


def test_the_like_of_an_observation_holds_no_memory() -> None:
    x = torch.randn(7, 3, 4, requires_grad=True)
    for part in observed(nn.LSTM(4, 5, 2), x).values():
        assert part.like.numel() == 0
        assert part.like.untyped_storage().nbytes() == 0
        assert not part.like.requires_grad


def test_dropout_met_with_two_batch_sizes_is_two_sites() -> None:
    model = nn.ModuleDict({"d": nn.Dropout(0.5)})
    recorded, _ = record(model, lambda: (model["d"](torch.ones(3, 4)), model["d"](torch.ones(2, 4))), "dropout")
    assert {name: seen.shape for name, seen in by_name(recorded).items()} == {
        "d:dropout": (3, 4),
        "d#1:dropout": (2, 4),
    }


@pytest.mark.parametrize("site", ["l0:recurrent", ":output"])
def test_two_batch_sizes_are_refused(site: str) -> None:
    layer = nn.GRU(3, 4)
    with refused("sites", site, 2, 6):
        record(layer, lambda: (layer(torch.ones(5, 2, 3)), layer(torch.ones(5, 6, 3))), site)


def test_a_first_mask_of_another_shape_is_refused() -> None:
    layer = nn.GRU(3, 4)

    def choose(seen: Observation) -> Tensor:
        return torch.ones(4)

    with refused("masks", ":output", (2, 1, 4), (4,)):
        record(layer, lambda: layer(torch.ones(5, 2, 3)), "output", first_masks=choose)


def test_sites_of_an_observation_are_those_that_were_found() -> None:
    model = nn.ModuleDict({"d": nn.Dropout(0.5)})
    recorded, _ = record(model, lambda: model["d"](torch.ones(3, 4)), "dropout")
    (named,) = recorded.sites
    (met,) = recorded.observed
    assert named == met
    assert isinstance(met, MaskSite)
    assert (named.units, met.units) == (0, 4)

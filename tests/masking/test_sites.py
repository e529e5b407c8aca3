"""Finding the places where masks can act."""

import pytest
import torch
from torch import nn

from lightning_advdrop.masking import MaskSite, check_sites, find_sites
from lightning_advdrop.nn import MaskedLSTM
from tests.helpers.messages import refused


def names(module: nn.Module, sites: str | list[str] = "recurrent") -> list[str]:
    return [site.name for site in find_sites(module, sites)]


@pytest.fixture
def deep() -> nn.Module:
    encoder = nn.ModuleDict({"lstm": nn.LSTM(4, 3, num_layers=2, bidirectional=True), "linear": nn.Linear(6, 6)})
    return nn.ModuleDict({"encoder": encoder, "encoder2": nn.LSTM(6, 5), "heads": nn.ModuleList([MaskedLSTM(6, 2)])})


ENCODER = [f"encoder.lstm.{part}" for part in ("l0", "l0_reverse", "l1", "l1_reverse")]


def test_a_bare_lstm_has_a_site_for_each_layer() -> None:
    assert names(nn.LSTM(4, 3, num_layers=2)) == ["l0:recurrent", "l1:recurrent"]
    assert names(MaskedLSTM(4, 3), "weight") == ["l0:weight"]


@pytest.mark.parametrize(
    ("path", "places"),
    [
        ("encoder", ENCODER),
        ("encoder.lstm", ENCODER),
        ("encoder.lstm.l1", ["encoder.lstm.l1"]),
        ("encoder.lstm.l1_reverse", ["encoder.lstm.l1_reverse"]),
        ("encoder2", ["encoder2.l0"]),
        ("heads", ["heads.0.l0"]),
        ("heads.0", ["heads.0.l0"]),
        ("", [*ENCODER, "encoder2.l0", "heads.0.l0"]),
    ],
)
def test_a_path_narrows_the_search(deep: nn.Module, path: str, places: list[str]) -> None:
    assert names(deep, f"{path}:recurrent") == [f"{place}:recurrent" for place in places]


def test_a_list_keeps_its_order_and_names_each_site_once(deep: nn.Module) -> None:
    wanted = ["encoder2:weight", "encoder.lstm.l0:recurrent", "encoder:recurrent", "encoder2:weight"]
    expected = ["encoder2.l0:weight", *(f"{place}:recurrent" for place in ENCODER)]
    assert names(deep, wanted) == expected


def test_sites_are_values() -> None:
    lstm = nn.LSTM(4, 3)
    first, second = find_sites(lstm)[0], find_sites(lstm)[0]
    assert first == second
    assert {first: 1}[second] == 1
    assert first != find_sites(lstm, "weight")[0]
    assert "Parameter" not in repr(first)


@pytest.mark.parametrize("kind", ["recurrent", "weight"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_have_the_sites_shape_and_the_layers_type(kind: str, dtype: torch.dtype) -> None:
    (site,) = find_sites(nn.LSTM(4, 50).to(dtype), kind)
    ones, sample, one_drop = site.ones(9), site.sample(9, 0.3), site.sample_one_drop(9)
    for mask in (ones, sample, one_drop):
        assert mask.dtype == dtype
        assert tuple(mask.shape) == site.shape(9)
        assert ((mask == 0) | (mask == 1)).all()
        assert not mask.requires_grad
    assert ones.all()
    assert ((1 - one_drop).sum(-1) == 1).all()
    assert 0.2 < 1 - sample.mean().item() < 0.4


def test_samples_at_the_ends_of_the_rate() -> None:
    (site,) = find_sites(nn.LSTM(4, 3))
    assert site.sample(5, 0.0).all()
    assert not site.sample(5, 1.0).any()
    with refused("rate", "[0, 1]", 1.5):
        site.sample(5, 1.5)


def draws(site: MaskSite, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [site.sample(6, 0.5, generator), site.sample_one_drop(6, generator)]


def test_a_generator_makes_samples_repeatable_and_leaves_the_global_one_alone() -> None:
    (site,) = find_sites(nn.LSTM(4, 20))
    before = torch.get_rng_state()
    first, second, other = draws(site, 1), draws(site, 1), draws(site, 2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("spec", "kind"), [("recurent", "recurent"), ("encoder.lstm", "encoder.lstm"), ("a:b", "b")])
def test_an_unknown_kind_is_refused(deep: nn.Module, spec: str, kind: str) -> None:
    allowed = ("recurrent", "weight", "embedding", "input", "hidden", "output", "dropout")
    for check in (check_sites, lambda sites: find_sites(deep, sites)):
        for sites in (spec, ["recurrent", spec]):
            with refused("sites", repr(kind), repr(spec), *allowed, "'encoder.lstm:recurrent'"):
                check(sites)


def test_known_kinds_pass_the_check() -> None:
    check_sites("recurrent")
    check_sites(["some.path:weight", "recurrent"])


@pytest.mark.parametrize("path", ["decoder", "encoder.lstm.l2"])
def test_nothing_found_where_there_are_candidates_elsewhere(deep: nn.Module, path: str) -> None:
    with refused("sites", "'recurrent'", repr(path), "ModuleDict", "LSTM", "encoder.lstm", "encoder2", "heads.0"):
        find_sites(deep, ["recurrent", f"{path}:recurrent"])

"""The network's own dropout as sites: what is found, and what a mask in its place computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop.masking import SiteSpecs, find_sites
from lightning_advdrop.masking import apply as apply_masks
from tests.helpers.messages import refused
from tests.helpers.recording import by_name, halves, plain, record, references

ignore_dropout2d = pytest.mark.filterwarnings("ignore:dropout2d:UserWarning")


@ignore_dropout2d
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("layer", "shape", "mask", "units"),
    [
        (nn.Dropout, (4, 5), (4, 5), 5),
        (nn.Dropout, (5,), (5,), 5),
        (nn.Dropout, (4, 2, 3), (4, 2, 3), 6),
        (nn.Dropout1d, (4, 5, 3), (4, 5, 1), 5),
        (nn.Dropout1d, (5, 3), (5, 1), 5),
        (nn.Dropout2d, (4, 5, 3, 2), (4, 5, 1, 1), 5),
        (nn.Dropout2d, (4, 5, 3), (4, 5, 1), 5),
        (nn.Dropout3d, (4, 5, 3, 2, 1), (4, 5, 1, 1, 1), 5),
        (nn.Dropout3d, (5, 3, 2, 1), (5, 1, 1, 1), 5),
    ],
)
def test_a_module_that_drops(layer: Any, shape: Any, mask: Any, units: int, inplace: bool) -> None:
    module, x = nn.ModuleDict({"d": layer(0.4, inplace)}), torch.randn(shape, dtype=torch.float64)

    def forward() -> Tensor:
        output: Tensor = module["d"](x * 1)
        return output

    recorded, base = record(module, forward, "dropout")
    assert torch.equal(base, plain(forward))
    seen = by_name(recorded)["d:dropout"]
    assert (seen.shape, seen.activation, seen.site.units, seen.site.drop_rate) == (mask, shape, units, 0.4)
    assert seen.mask is not None
    assert torch.equal(x * seen.mask / 0.6, base)
    assert torch.equal(recorded.run(forward, references(recorded)), base)
    given = torch.rand(mask, dtype=torch.float64, requires_grad=True)
    found = recorded.run(forward, {seen.site: given})
    torch.testing.assert_close(found, x * given)
    (gradient,) = torch.autograd.grad(found.sum(), given)
    torch.testing.assert_close(gradient, x.sum_to_size(mask))
    assert torch.equal(recorded.run(forward, {}), base)


@ignore_dropout2d
@pytest.mark.parametrize(
    ("function", "shape", "units"),
    [
        (F.dropout, (4, 5), 5),
        (F.dropout1d, (4, 5, 3), 5),
        (F.dropout2d, (4, 5, 3), 5),
        (F.dropout3d, (4, 5, 3, 2, 2), 5),
        (lambda x: F.dropout(input=x, p=0.5, training=True, inplace=False), (4, 5), 5),
        (lambda x: torch.dropout(x, 0.3, True), (4, 5), 5),
        (lambda x: torch.dropout(x, p=0.3, train=True), (4, 5), 5),
        (lambda x: torch.feature_dropout(x, 0.3, True), (4, 5, 2), 5),
        (lambda x: F.dropout(x * 1, 0.3, inplace=True), (4, 5), 5),
        (lambda x: torch.dropout_(x * 1, 0.3, True), (4, 5), 5),
        (lambda x: torch.feature_dropout_(x * 1, 0.3, True), (4, 5, 2), 5),
        (lambda x: torch.native_dropout(x, 0.3, True)[0], (4, 5), 5),
        (lambda x: torch.native_dropout(x, 0.3, None)[0], (4, 5), 5),
        (lambda x: torch.where(torch.native_dropout(x, 0.3, True)[1], x, 0), (4, 5), 5),
        (lambda x: F.dropout(x.transpose(0, 1), 0.3), (5, 4), 5),
        (lambda x: F.dropout(x.expand(6, 4, 5), 0.3), (4, 5), 20),
    ],
)
def test_functional_dropout_is_found_when_it_runs(function: Any, shape: Any, units: int) -> None:
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = function(x)
            return output

    model, x = nn.ModuleDict({"inner": Functional()}), torch.randn(shape)
    recorded, base = record(model, lambda: model["inner"](x), "dropout")
    assert torch.equal(base, plain(lambda: model["inner"](x)))
    ((name, seen),) = by_name(recorded).items()
    assert (name, seen.site.layer, seen.site.units) == ("inner:dropout", "inner", units)
    assert torch.equal(recorded.run(lambda: model["inner"](x), references(recorded)), base)
    assert not torch.equal(recorded.run(lambda: model["inner"](x), halves(recorded)), base)


class Noisy(nn.Module):
    """Dropout as modules, one of them called three times, and as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 4))
        self.d = nn.Dropout(0.4)
        self.off, self.all = nn.Dropout(0.0), nn.Dropout(1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        x = x + self.d(x)
        x = x + self.d(self.off(x).tanh())
        x = F.dropout(x + self.d(x), 0.2, self.training)
        return x.add(self.all(x))


ALL = ["encoder.1:dropout", "d:dropout", "d#1:dropout", "d#2:dropout", ":dropout"]


@pytest.mark.parametrize(
    ("sites", "names"),
    [
        ("dropout", ALL),
        ("encoder:dropout", ALL[:1]),
        ("d:dropout", ALL[1:4]),
        (["encoder:dropout", "dropout"], ALL),
        (["d:dropout", "encoder.1:dropout"], ALL[:4]),
    ],
)
def test_sites_within_a_path(sites: SiteSpecs, names: list[str]) -> None:
    model, x = Noisy(), torch.randn(5, 3)
    recorded, base = record(model, lambda: model(x), sites)
    assert list(by_name(recorded)) == names
    assert torch.equal(base, plain(lambda: model(x)))
    for _ in range(3):
        assert torch.equal(recorded.run(lambda: model(x), references(recorded)), base)


def test_rates_go_with_the_path_that_names_a_site_first() -> None:
    model, x = Noisy(), torch.randn(5, 3)
    recorded, _ = record(model, lambda: model(x), {"encoder:dropout": 0.1, "d:dropout": 0.2, "dropout": 0.3})
    rates = {name: seen.site.rate for name, seen in by_name(recorded).items()}
    assert rates == dict(zip(ALL, [0.1, 0.2, 0.2, 0.2, 0.3], strict=True))


@pytest.mark.parametrize("name", ALL)
def test_the_noise_of_later_dropout_is_as_before(name: str) -> None:
    """With one mask as the base pass had it, only that is the mask's doing, and nothing changes."""
    model, x = Noisy(), torch.randn(5, 3)
    recorded, base = record(model, lambda: model(x), "dropout")
    seen = by_name(recorded)[name]
    same = {seen.site: seen.site.rescale(seen.reference())}
    assert torch.equal(recorded.run(lambda: model(x), same), base)
    assert not torch.equal(recorded.run(lambda: model(x), {seen.site: torch.zeros_like(seen.reference())}), base)
    assert torch.equal(recorded.run(lambda: model(x), same), base)


def test_noise_of_its_own_keeps_no_masks_and_draws_references() -> None:
    model, x = Noisy(), torch.randn(5, 3)
    recorded, base = record(model, lambda: model(x), "dropout", share_noise=False)
    assert torch.equal(base, plain(lambda: model(x)))
    assert all(seen.mask is None for seen in recorded.observed.values())
    unmasked = [recorded.run(lambda: model(x), {}) for _ in range(2)]
    assert torch.equal(*unmasked)
    assert not torch.equal(unmasked[0], base)
    seen = by_name(recorded)["d:dropout"]
    draws = [seen.reference(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_nothing_takes_part_in_eval_mode() -> None:
    model, x = Noisy().eval(), torch.randn(5, 3)
    recorded, base = record(model, lambda: model(x), "dropout")
    assert recorded.observed == {}
    assert torch.equal(recorded.run(lambda: model(x), {}), base)


def test_a_given_mask_acts_in_a_context_of_its_own() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), torch.randn(5, 3)
    (site,) = find_sites(model, "dropout")
    mask = torch.rand(5, 4)
    with apply_masks(model, {site: mask}):
        output = model(x)
    torch.testing.assert_close(output, model[0](x) * mask)


def test_a_mask_of_another_shape_is_refused() -> None:
    model = nn.Sequential(nn.Dropout(0.5))
    (site,) = find_sites(model, "dropout")
    with refused("masks", "0:dropout", (5, 3), (3, 5)), apply_masks(model, {site: torch.ones(3, 5)}):
        model(torch.randn(5, 3))


def test_a_module_with_two_paths() -> None:
    shared = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    model, x = nn.ModuleDict({"first": shared, "second": shared}), torch.randn(5, 3)
    recorded, _ = record(model, lambda: model["second"](x), "second:dropout")
    assert list(by_name(recorded)) == ["second.1:dropout"]


@pytest.mark.parametrize("layer", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_is_refused_where_it_is_named(layer: Any) -> None:
    model = nn.ModuleDict({"a": layer(0.2), "b": nn.Dropout(0.2)})
    with refused("sites", "a", layer.__name__, "'encoder:dropout'", "nn.Dropout"):
        find_sites(model, "dropout")
    assert [site.name for site in find_sites(model, "b:dropout")] == ["b:dropout"]


ALPHA = [
    *(F.alpha_dropout, F.feature_alpha_dropout, torch.alpha_dropout),
    *(torch.alpha_dropout_, torch.feature_alpha_dropout_),
]


@pytest.mark.parametrize("function", ALPHA)
def test_functional_alpha_dropout_is_refused_within_the_path(function: Any) -> None:
    class Alpha(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = function(x, 0.5, self.training)
            return output

    model, x = nn.ModuleDict({"a": Alpha(), "d": nn.Dropout(0.5)}), torch.randn(5, 3)
    with refused("sites", function.__name__, "'encoder:dropout'"):
        record(model, lambda: model["a"](x), "dropout")
    recorded, base = record(model, lambda: model["d"](model["a"](x * 1)), "d:dropout")
    assert torch.equal(recorded.run(lambda: model["d"](model["a"](x * 1)), references(recorded)), base)
    model.eval()
    record(model, lambda: model["a"](x), "dropout")

"""A recorded forward of a model with every kind of site: its base pass, and what other runs replay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop import _torch
from lightning_advdrop.masking import MaskSite, Observation, RecordedForward, find_sites
from lightning_advdrop.masking.prefix import Prefix
from tests.helpers.models_recurrent import Stack, parameter_gradients, random_mask
from tests.helpers.recording import by_name, computed, halves, plain, record, references

STEPS, BATCH = 5, 3
KINDS = ("recurrent", "weight", "embedding", "input", "hidden", "output", "dropout")
each_kind = pytest.mark.parametrize("kind", KINDS)
each_layer = pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])


def words() -> Tensor:
    return torch.randint(9, (STEPS, BATCH))


@each_layer
@each_kind
def test_the_base_pass_is_that_of_plain_training(kind: str, layer: Any) -> None:
    model, x = Stack(layer=layer), words()
    for share_noise in (True, False):
        recorded, base = record(model, lambda: model(x), kind, share_noise=share_noise)
        after = torch.rand(3)
        assert torch.equal(base, plain(lambda: model(x)))
        assert torch.equal(after, torch.rand(3))
        assert recorded.observed


@each_layer
@each_kind
def test_masks_that_change_nothing_give_the_base_output(kind: str, layer: Any) -> None:
    model, x = Stack(layer=layer).double(), words()
    recorded, base = record(model, lambda: model(x), kind)
    for _ in range(3):
        again = recorded.run(lambda: model(x), references(recorded))
        torch.testing.assert_close(again, base, rtol=0 if kind == "dropout" else 1e-10, atol=1e-10)
    assert torch.equal(recorded.run(lambda: model(x), {}), base)
    assert not torch.allclose(recorded.run(lambda: model(x), halves(recorded)), base)


@each_kind
@pytest.mark.parametrize("share_noise", [True, False])
def test_gradients_are_those_of_a_run_without_handing_back(kind: str, share_noise: bool) -> None:
    model, x = Stack().double(), words()
    recorded, _ = record(model, lambda: model(x), kind, share_noise=share_noise)
    found = []
    masks = halves(recorded)
    for handing_back in (True, False):
        if not handing_back:
            recorded._prefix = Prefix()
        else:
            recorded.run(lambda: model(x), masks)
        output = recorded.run(lambda: model(x), masks)
        found.append((output, parameter_gradients(output.square().sum(), model)))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("share_noise", [True, False])
def test_subsets_of_the_sites_in_any_order(share_noise: bool) -> None:
    """Each run is right, whether its first mask acts earlier or later than in the runs before it."""
    model, x = Stack().double(), words()
    recorded, _ = record(model, lambda: model(x), list(KINDS), share_noise=share_noise)
    masks = {site: seen.sample(0.5) for site, seen in recorded.observed.items()}
    fresh, _ = record(model, lambda: model(x), list(KINDS), share_noise=share_noise)
    sites = list(masks)
    generator = torch.Generator().manual_seed(3)
    subsets = [[site] for site in [*reversed(sites), *sites]]
    subsets += [[s for s in sites if torch.rand((), generator=generator) < 0.3] for _ in range(8)]
    for subset in subsets:
        given = {site: masks[site] for site in subset}
        fresh._prefix = Prefix()
        torch.testing.assert_close(
            recorded.run(lambda: model(x), given), fresh.run(lambda: model(x), given), rtol=1e-10, atol=1e-10
        )


# How many of the layers lift, between and out are computed in the second run (with shared noise) and in the third.
LINEAR_LAYERS = {
    "table:embedding": (3, 3),
    "drop:dropout": (2, 2),
    "lower.l0:recurrent": (2, 2),
    "lower:input": (2, 2),
    "lower.l1:hidden": (2, 2),
    "lower:output": (2, 2),
    "upper:input": (1, 1),
    "upper.l0:recurrent": (1, 1),
    "upper:output": (1, 1),
    ":dropout": (2, 1),  # names all dropout, of which the last is masked
}


@pytest.mark.parametrize("name", LINEAR_LAYERS)
@pytest.mark.parametrize("share_noise", [True, False])
def test_what_comes_before_a_mask_is_handed_back(name: str, share_noise: bool) -> None:
    model, x = Stack(), words()
    recorded, _ = record(model, lambda: model(x), name, share_noise=share_noise)
    seen = by_name(recorded)[name]
    given = {seen.site: seen.sample(0.5)}
    second, third = LINEAR_LAYERS[name]
    counts = [computed(recorded, lambda: model(x), given, "linear", "tanh") for _ in range(3)]
    assert [linear for linear, _ in counts] == [second if share_noise else 3, third, third]
    assert [tanh for _, tanh in counts[1:]] == [int(third == 3)] * 2


@pytest.mark.parametrize("share_noise", [True, False])
def test_the_layer_below_a_hidden_site_is_handed_back(share_noise: bool) -> None:
    model, x = Stack(), words()
    recorded, _ = record(model, lambda: model(x), "hidden", share_noise=share_noise)
    given = halves(recorded)
    counts = [computed(recorded, lambda: model(x), given, "lstm")[0] for _ in range(3)]
    # Layer 0 and layer 1 of the lower module by themselves, and the upper module.
    assert counts == [3, 2, 2]


def test_dropout_that_is_not_masked_is_handed_back_with_what_goes_around_it() -> None:
    model, x = Stack(), words()
    recorded, base = record(model, lambda: model(x), "dropout")
    last = by_name(recorded)[":dropout"]
    given = {last.site: last.site.rescale(last.reference())}
    assert computed(recorded, lambda: model(x), given, "dropout", "lstm")[0] > 0
    assert computed(recorded, lambda: model(x), given, "lstm", "linear") == (0, 1)
    assert torch.equal(recorded.run(lambda: model(x), given), base)


@each_layer
def test_without_dropout_is_as_in_eval_mode(layer: Any) -> None:
    model, x = Stack(layer=layer).double(), words()
    recorded, base = record(model, lambda: model(x), list(KINDS))
    given = references(recorded)
    without = recorded.run(lambda: model(x), {}, dropout=False)
    with_ones = recorded.run(
        lambda: model(x), {site: mask for site, mask in given.items() if site.kind != "dropout"}, dropout=False
    )
    torch.testing.assert_close(recorded.run(lambda: model(x), given), base, rtol=1e-10, atol=1e-10)
    assert model.training
    expected = model.eval()(x)
    torch.testing.assert_close(without, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(with_ones, expected, rtol=1e-10, atol=1e-10)


def test_all_dropout_can_be_switched_off() -> None:
    layers = [nn.Dropout(0.5), nn.Dropout1d(0.5), nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5), nn.Dropout(1.0)]
    model, x = nn.Sequential(*layers, nn.RNN(3, 3)), torch.randn(5, 2, 3)
    recorded, _ = record(model, lambda: model(x)[0])
    assert torch.equal(recorded.run(lambda: model(x)[0], {}, dropout=False), model[-1](x)[0])


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: torch.dropout_(x * 1, 0.5, True),
        lambda x: torch.native_dropout(x, 0.5, True)[0],
        lambda x: torch.where(torch.native_dropout(x, 0.5, None)[1], x, 0),
        lambda x: torch.feature_dropout_(x * 1, 0.5, True),
        lambda x: torch.alpha_dropout_(x * 1, 0.5, True),
        lambda x: torch.feature_alpha_dropout_(x * 1, 0.5, True),
    ],
)
def test_dropout_as_a_function_can_be_switched_off(drop: Any) -> None:
    model, x = nn.RNN(3, 3), torch.randn(5, 2, 3)
    recorded, _ = record(model, lambda: drop(model(x)[0]))
    assert torch.equal(recorded.run(lambda: drop(model(x)[0]), {}, dropout=False), model(x)[0])


@pytest.mark.parametrize("share_noise", [True, False])
@each_kind
def test_first_masks_are_those_of_the_base_pass(kind: str, share_noise: bool) -> None:
    model, x = Stack().double(), words()
    drawn: dict[MaskSite, Tensor] = {}
    generator = torch.Generator().manual_seed(5)

    def draw(seen: Observation) -> Tensor:
        drawn[seen.site] = seen.site.rescale(seen.sample(0.5, generator)).requires_grad_()
        return drawn[seen.site]

    recorded, base = record(model, lambda: model(x), kind, share_noise=share_noise, first_masks=draw)
    assert recorded.observed.keys() == drawn.keys()
    for site, seen in recorded.observed.items():
        assert seen.applied is drawn[site]
        assert seen.mask is not None
        assert torch.equal(seen.mask, (drawn[site] != 0).double())
        assert torch.equal(seen.reference(), seen.mask)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(base.square().sum(), list(drawn.values())))
    if share_noise:
        again = recorded.run(lambda: model(x), drawn)
        torch.testing.assert_close(again, base, rtol=1e-10, atol=1e-10)


def test_first_masks_of_some_sites() -> None:
    model, x = Stack(), words()
    zeros = {"upper.l0:recurrent": torch.zeros(BATCH, 6)}
    recorded, base = record(model, lambda: model(x), "recurrent", first_masks=lambda seen: zeros.get(seen.site.name))
    masks = {name: seen.mask for name, seen in by_name(recorded).items()}
    assert [name for name, mask in masks.items() if mask is not None] == list(zeros)
    given = {site: zeros[site.name] for site in recorded.observed if site.name in zeros}
    torch.testing.assert_close(recorded.run(lambda: model(x), given), base)


def test_a_layer_called_twice_has_its_first_mask_twice() -> None:
    lstm, x = nn.LSTM(3, 3).double(), torch.randn(5, 2, 3, dtype=torch.float64)
    given = random_mask(2, 3)
    recorded, base = record(lstm, lambda: lstm(lstm(x)[0])[0], first_masks=lambda _: given)
    (site,) = recorded.observed
    torch.testing.assert_close(recorded.run(lambda: lstm(lstm(x)[0])[0], {site: given}), base)


class Stacked(nn.Module):
    """A masked layer and, beside it, two stacked ones with dropout between them that no mask acts on."""

    def __init__(self) -> None:
        super().__init__()
        self.masked, self.stacked = nn.GRU(3, 4), nn.LSTM(3, 4, num_layers=2, dropout=0.5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.masked(x)[0] + self.stacked(x)[0]
        return result


def replayed(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """A base pass with shared noise, and two more passes without any flip."""
    torch.manual_seed(0)
    model, x = Stacked().double().to(device), torch.randn(5, 2, 3, dtype=torch.float64, device=device)
    recorded = RecordedForward(model, find_sites(model, ["masked:recurrent", "stacked:weight"]), share_noise=True)
    with recorded.first_run():
        base = model(x)
    masks = {site: seen.ones() for site, seen in recorded.observed.items()}
    return base, recorded.run(lambda: model(x), masks), recorded.run(lambda: model(x), masks)


def test_layers_that_draw_their_own_dropout_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = replayed("cpu")
    monkeypatch.setattr(_torch, "draws_own_dropout", lambda data: True)
    for found in replayed("cpu"):
        torch.testing.assert_close(found, expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
def test_dropout_between_layers_is_replayed_on_a_gpu() -> None:
    """CuDNN's own would be new in each pass."""
    base, *others = replayed("cuda")
    for found in others:
        torch.testing.assert_close(found, base, rtol=1e-10, atol=1e-12)

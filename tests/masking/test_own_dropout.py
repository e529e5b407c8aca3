"""Masks at sites where the network draws its own, which then give way, while all other noise stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.masking import MaskSite, Perturbation, RecordedForward, apply, find_sites
from lightning_advdrop.nn import AWDLSTM
from lightning_advdrop.regularizers import AdversarialDropout, ExpectationLinearDropout, FraternalDropout, Passes
from tests.helpers.models_recurrent import CallCounter
from tests.helpers.reference_awd_lstm import ReferenceAWDLSTM
from tests.nn.test_awd_lstm import RATES, awd_lstm, words

KINDS = ("weight", "recurrent", "embedding", "input", "output")
BATCH = 3


def place(site: MaskSite) -> tuple[str, int]:
    """The site as the reference names it."""
    return site.kind, int(site.layer.split(".")[1]) if site.layer.startswith("rnns.") else 0


def random_masks(sites: list[MaskSite]) -> dict[MaskSite, Tensor]:
    return {site: site.rescale(site.sample(BATCH, 0.4)).requires_grad_() for site in sites}


def expected(model: AWDLSTM, masks: dict[MaskSite, Tensor], seed: int) -> Tensor:
    """The logits of the reference under masks, the other noise being that of ``seed``."""
    torch.manual_seed(seed)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return ReferenceAWDLSTM(parameters, RATES, {place(site): mask for site, mask in masks.items()})(words())


def recording(model: AWDLSTM, sites: list[MaskSite], *, share: bool) -> tuple[RecordedForward, Callable[[], Tensor]]:
    """A pass with the noise of seed 5, ready for others with the noise of seed 5 or 6."""

    def forward() -> Tensor:
        logits: Tensor = model(words()).logits
        return logits

    recorded = RecordedForward(model, sites, share_noise=share)
    torch.manual_seed(5)
    with recorded.first_run():
        forward()
    recorded.draw_noise(6)
    return recorded, forward


def test_all_kinds_of_sites_are_found() -> None:
    model = awd_lstm()
    assert [site.name for site in find_sites(model, "rnns.2:weight")] == ["rnns.2.l0:weight"]
    names = {kind: [site.name for site in find_sites(model, kind)] for kind in KINDS}
    assert names["embedding"] == ["embedding:embedding"]
    assert all(len(names[kind]) == 3 for kind in KINDS if kind != "embedding")
    assert [site.name for site in find_sites(model, "dropout")] == [":dropout"]


@pytest.mark.parametrize(
    ("kind", "layer"), [(kind, layer) for kind in KINDS for layer in range(1 if kind == "embedding" else 3)]
)
def test_a_mask_takes_the_place_of_the_networks_own(kind: str, layer: int) -> None:
    model = awd_lstm()
    masks = random_masks(find_sites(model, kind)[layer : layer + 1])
    torch.manual_seed(5)
    with apply(model, masks):
        found = model(words()).logits
    reference = expected(model, masks, 5)
    torch.testing.assert_close(found, reference, rtol=0, atol=1e-12)
    leaves = [*masks.values(), *model.parameters()]
    gradients = torch.autograd.grad(found.square().sum(), leaves)
    for one, other in zip(gradients, torch.autograd.grad(reference.square().sum(), leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("kinds", [*([kind] for kind in KINDS), ["weight", "recurrent", "embedding", "input"]])
def test_other_runs(kinds: list[str], share: bool) -> None:
    model = awd_lstm()
    sites = find_sites(model, kinds)
    recorded, forward = recording(model, sites, share=share)
    masks = random_masks(sites)
    probe = recorded.run(forward, masks)
    again = recorded.run(forward, masks)
    assert torch.equal(probe, again)
    reference = expected(model, masks, 5 if share else 6)
    torch.testing.assert_close(again, reference, rtol=0, atol=1e-12)
    leaves = list(masks.values())
    wanted = torch.autograd.grad(reference.square().sum(), [*leaves, *model.parameters()])
    found = [
        *torch.autograd.grad(probe.square().sum(), leaves),
        *torch.autograd.grad(again.square().sum(), list(model.parameters())),
    ]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "dropout"])
def test_without_masks_shared_noise_gives_the_same_prediction(kind: str) -> None:
    model = awd_lstm()
    recorded, forward = recording(model, find_sites(model, kind), share=True)
    torch.manual_seed(5)
    assert torch.equal(recorded.run(forward, {}), forward())


def test_what_a_pass_shows_of_the_networks_own_masks() -> None:
    model = awd_lstm()
    recorded, _ = recording(model, find_sites(model, ["weight", "embedding", "input", "output"]), share=True)
    rates = {place(seen.site): seen.site.drop_rate for seen in recorded.observed.values()}
    assert rates == {
        **{("weight", layer): RATES["weight"] for layer in range(3)},
        ("embedding", 0): RATES["word"],
        ("input", 0): RATES["input"],
        **{(kind, layer + (kind == "input")): RATES["hidden"] for kind in ("input", "output") for layer in (0, 1)},
        ("output", 2): RATES["output"],
    }
    for seen in recorded.observed.values():
        assert seen.replaces_own
        assert torch.equal(seen.reference(), torch.ones(seen.shape, dtype=torch.float64))


def test_dropout_sites_are_the_networks_own_masks() -> None:
    model = awd_lstm()
    recorded, forward = recording(model, find_sites(model, "dropout"), share=True)
    units = [seen.site.units for seen in recorded.observed.values()]
    assert units == [11, 4, 6, 6, 6, 6, 4, 4]  # words, input, and for each layer the weight and what is behind it
    masks = {site: site.rescale(seen.reference()) for site, seen in recorded.observed.items()}
    torch.testing.assert_close(recorded.run(forward, masks), recorded.run(forward, {}), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("share", "layers"), [(False, 3 + 3 + 1), (True, 3 + 1 + 1)])
def test_layers_below_the_mask_are_computed_once(share: bool, layers: int) -> None:
    model = awd_lstm()
    settings: dict[str, Any] = {"divergence": "mse_logits", "search": "gradient", "start": "ones", "share_masks": share}
    regularizer = AdversarialDropout(0.3, **settings)
    recorded = RecordedForward(model, find_sites(model, "rnns.2:weight"), share_noise=share)
    with CallCounter() as counter:
        with recorded.first_run():
            base = model(words()).logits
        recorded.draw_noise(1)
        penalty = regularizer.penalty(Passes(recorded, lambda: model(words()).logits, base))
    assert counter.names["lstm"] == layers
    assert penalty.value > 0
    mask = next(iter(penalty.masks.values()))
    dropped = (mask == 0).sum(-1)
    assert mask.shape == (16, 4)
    assert 0 < int(dropped.max()) <= 1  # from ones, floor(0.3 * 4) of a row


@pytest.mark.parametrize("kind", ["embedding", "input"])
def test_something_is_added_beside_the_networks_own_masks(kind: str) -> None:
    model = awd_lstm()
    sites = find_sites(model, kind)[:1]
    recorded, forward = recording(model, sites, share=True)
    shape = recorded.observed[sites[0]].activation
    assert shape == (7, BATCH, 4)
    nothing = recorded.run(forward, {sites[0]: Perturbation(torch.zeros(shape, dtype=torch.float64))})
    assert torch.equal(nothing, recorded.run(forward, {}))
    something = recorded.run(forward, {sites[0]: Perturbation(torch.ones(shape, dtype=torch.float64))})
    assert not torch.allclose(something, nothing)


def test_the_inference_phase_drops_nothing() -> None:
    model = awd_lstm()
    recorded, forward = recording(model, find_sites(model, "recurrent"), share=False)
    without = recorded.run(forward, {}, dropout=False)
    torch.testing.assert_close(without, model.eval()(words()).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("regularizer", [FraternalDropout(0.5, both_losses=False), ExpectationLinearDropout(0.5)])
@pytest.mark.parametrize("kind", [*KINDS, "dropout"])
def test_other_regularizers(kind: str, regularizer: FraternalDropout | ExpectationLinearDropout) -> None:
    model, generator = awd_lstm(), torch.Generator()
    recorded = regularizer.record(model, find_sites(model, kind), generator)
    with recorded.first_run():
        base = model(words()).logits
    recorded.draw_noise(1)
    penalty = regularizer.penalty(Passes(recorded, lambda: model(words()).logits, base, generator=generator))
    assert penalty.value > 0
    torch.autograd.grad(penalty.value, list(model.parameters()), allow_unused=True)

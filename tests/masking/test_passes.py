"""Running a forward again: what it computes, and what it leaves behind. See `test_replay` for what is handed back."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_advdrop.masking import Masks, RandomState, RecordedForward, find_sites
from lightning_advdrop.masking import apply as apply_masks
from tests.helpers.messages import refused
from tests.helpers.models_recurrent import Carrying, Tagger, parameter_gradients
from tests.helpers.recording import SEED, halves, record

BATCH, STEPS = 4, 7


def ones(recorded: RecordedForward) -> Masks:
    return {site: seen.ones() for site, seen in recorded.observed.items()}


def test_each_site_is_observed() -> None:
    model = nn.ModuleDict({"a": nn.LSTM(3, 4, 2), "b": nn.LSTM(3, 4, batch_first=True), "unused": nn.LSTM(3, 4)})
    recorded = RecordedForward(model, find_sites(model, ["recurrent", "weight"]), share_noise=True)
    assert recorded.observed == {}
    with recorded.first_run():
        model["a"](torch.randn(5, 2, 3))
        model["b"](pack_padded_sequence(torch.randn(6, 5, 3), torch.tensor([1, 5, 3, 2, 1, 1]), True, False))
    shapes = {site.name: seen.shape for site, seen in recorded.observed.items()}
    recurrent = {"a.l0": (2, 4), "a.l1": (2, 4), "b.l0": (6, 4)}
    expected = {f"{place}:recurrent": shape for place, shape in recurrent.items()}
    assert shapes == {**expected, **{f"{place}:weight": (16, 4) for place in recurrent}}


def test_a_run_needs_a_first_run() -> None:
    lstm = nn.LSTM(3, 4)
    recorded = RecordedForward(lstm, find_sites(lstm), share_noise=True)
    with refused("RecordedForward.run", "first_run()", error=RuntimeError):
        recorded.run(lambda: pytest.fail("must not run"), {})


@pytest.mark.parametrize("kinds", ["recurrent", "weight"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (1, True), (2, False)])
def test_shared_noise_and_ones_give_the_base_output(kinds: str, layers: int, bidirectional: bool) -> None:
    model, x = Tagger(dropout=0.5, layers=layers, bidirectional=bidirectional), torch.randn(BATCH, STEPS, 4)
    recorded, base = record(model, lambda: model(x), kinds, share_noise=True)
    for _ in range(3):
        torch.testing.assert_close(recorded.run(lambda: model(x), ones(recorded)), base, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(recorded.run(lambda: model(x), halves(recorded)), base)


@pytest.mark.parametrize("share_noise", [True, False])
@pytest.mark.parametrize("kinds", [["recurrent"], ["weight"], ["recurrent", "weight"]])
def test_a_run_is_the_forward_under_the_masks(share_noise: bool, kinds: list[str]) -> None:
    model, x = Tagger(layers=2, bidirectional=True), torch.randn(BATCH, STEPS, 4)
    recorded, _ = record(model, lambda: model(x), kinds, share_noise=share_noise)
    for _ in range(3):
        masks = halves(recorded)
        with apply_masks(model, masks):
            expected = model(x)
        torch.testing.assert_close(recorded.run(lambda: model(x), masks), expected)


@pytest.mark.parametrize("layers", [1, 2])
def test_noise_of_its_own_is_the_same_in_all_runs(layers: int) -> None:
    model, x = Tagger(dropout=0.5, layers=layers), torch.randn(BATCH, STEPS, 4)
    recorded, base = record(model, lambda: model(x), share_noise=False)
    masks, before = halves(recorded), torch.get_rng_state()
    outputs = [recorded.run(lambda: model(x), masks) for _ in range(3)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.allclose(recorded.run(lambda: model(x), ones(recorded)), base)


def test_noise_follows_its_seed_alone() -> None:
    model, x = Tagger(dropout=0.5), torch.randn(BATCH, STEPS, 4)
    outputs = []
    for seed, jitter in ((1, 0), (1, 5), (2, 0)):
        recorded, _ = record(model, lambda: model(x), share_noise=False)
        torch.rand(jitter)
        recorded.draw_noise(seed)
        outputs.append(recorded.run(lambda: model(x), ones(recorded)))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_nothing_global_is_consumed_by_drawing_noise_or_running() -> None:
    model, x = Tagger(dropout=0.5), torch.randn(BATCH, STEPS, 4)
    for share_noise in (True, False):
        torch.manual_seed(SEED)
        model(x)
        expected = torch.rand(3)
        torch.manual_seed(SEED)
        recorded, _ = record(model, lambda: model(x), share_noise=share_noise)
        recorded.run(lambda: model(x), ones(recorded))
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("share_noise", [True, False])
def test_gradients_through_what_is_handed_back(share_noise: bool) -> None:
    """The same as those of computing everything again."""
    model = Tagger(dropout=0.5, layers=2).double()
    x = torch.randn(BATCH, STEPS, 4, dtype=torch.float64)
    recorded, base = record(model, lambda: model(x), share_noise=share_noise)
    first, second = halves(recorded), halves(recorded)
    recorded.run(lambda: model(x), first)
    loss = (base.detach() * base).sum() + recorded.run(lambda: model(x), second).square().sum()
    again = parameter_gradients(loss, model)
    RandomState.seeded(SEED).restore()
    base = model(x)
    RandomState.seeded(SEED if share_noise else SEED + 1).restore()
    with apply_masks(model, second):
        expected = (base.detach() * base).sum() + model(x).square().sum()
    if share_noise:  # the stock kernel between two layers draws elsewhere than the masked one
        torch.testing.assert_close(loss, expected)
    for name, gradient in parameter_gradients(expected, model).items():
        torch.testing.assert_close(again[name], gradient, msg=name)


@pytest.mark.parametrize("kind", ["recurrent", "weight"])
def test_the_masks_gradient_alone_is_that_beside_those_of_parameters(kind: str) -> None:
    model, x = Tagger(layers=2).double(), torch.randn(BATCH, STEPS, 4, dtype=torch.float64)
    recorded, _ = record(model, lambda: model(x), kind, share_noise=True)
    masks = {site: mask.requires_grad_() for site, mask in halves(recorded).items()}
    gradients = []
    for others in ([], list(model.parameters())):
        loss = recorded.run(lambda: model(x), masks).square().sum()
        gradients.append(torch.autograd.grad(loss, [*masks.values(), *others])[: len(masks)])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
        assert a.abs().sum() > 0


@pytest.mark.parametrize("share_noise", [True, False])
def test_the_state_is_that_before_the_first_run_and_stays_that_after_it(share_noise: bool) -> None:
    model, x = Carrying(), torch.randn(STEPS, BATCH, 3)
    model(x)
    untouched = copy.deepcopy(model)
    recorded, base = record(model, lambda: model(x), share_noise=share_noise)
    state, hidden = copy.deepcopy(model.state_dict()), model.hidden
    for _ in range(2):
        torch.testing.assert_close(recorded.run(lambda: model(x), ones(recorded)), base)
    assert model.hidden is hidden
    assert model.calls == 2
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    expected = parameter_gradients(untouched(x).sum(), untouched)
    for name, gradient in parameter_gradients(base.sum(), model).items():
        torch.testing.assert_close(gradient, expected[name])

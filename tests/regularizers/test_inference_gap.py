"""The gap between dropout's two phases on one batch, against enumeration and against passes made by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_advdrop.functional import mse_probs, rescale_mask
from lightning_advdrop.masking import RecordedForward, SiteSpecs, apply, find_sites
from lightning_advdrop.regularizers import InferenceGap, Passes, inference_gap
from tests.helpers.messages import refused

UNITS, BATCH = 8, 5


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.lstm = nn.LSTM(4, UNITS, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(UNITS, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.lstm(self.embedding(tokens))
        logits: Tensor = self.head(self.dropout(outputs[:, -1]))
        return logits


def network() -> tuple[Net, Tensor]:
    torch.manual_seed(1)
    net = Net().double().eval()
    for parameter in net.parameters():
        parameter.data *= 2
    return net, torch.randint(20, (BATCH, 6))


def passes(net: Net, x: Tensor, sites: SiteSpecs = "recurrent", weight: Tensor | None = None) -> Passes:
    recorded = RecordedForward(net, find_sites(net, sites), share_noise=True)
    with recorded.first_run(), torch.no_grad():
        base = net(x)
    return Passes(recorded, lambda: net(x), base, sample_weight=weight, generator=torch.Generator().manual_seed(2))


def same(one: InferenceGap, other: InferenceGap) -> bool:
    return all(torch.equal(value, vars(other)[name]) for name, value in vars(one).items())


def enumerated(net: Net, x: Tensor, drops: int) -> Tensor:
    """The divergence of each example under each mask with so many drops, (masks, B)."""
    (site,) = find_sites(net, "recurrent")
    base = net(x).log_softmax(-1)
    found = []
    for places in itertools.combinations(range(UNITS), drops):
        mask = torch.ones(BATCH, UNITS, dtype=torch.float64)
        mask[:, places] = 0
        with apply(net, {site: rescale_mask(mask)}):
            other = net(x).log_softmax(-1)
        found.append(F.kl_div(other, base, log_target=True, reduction="none").sum(-1))
    return torch.stack(found).detach()


@pytest.mark.parametrize(("rate", "drops"), [(0.05, 1), (0.25, 2), (0.4, 3)])
def test_random_and_adversarial_values_are_those_of_the_enumeration(rate: float, drops: int) -> None:
    net, x = network()
    every = enumerated(net, x, drops)
    gap = inference_gap(passes(net, x), rate, "kl", samples=400)
    assert abs(gap.random - every.mean()) < 4 * (every.var(0).mean() / (400 * BATCH)).sqrt()
    assert gap.random <= gap.adversarial <= every.max(0).values.mean() + 1e-12
    assert gap.adversarial > 0.6 * every.max(0).values.mean()
    assert torch.equal(gap.random, gap.samples.mean())


def test_each_row_has_exactly_the_budget_of_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network()
    seen: list[Tensor] = []
    passes_ = passes(net, x, ["recurrent", "weight", "embedding"])
    run = RecordedForward.run

    def watched(self: RecordedForward, forward: Any, masks: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            seen.extend((site.as_rows(mask) == 0).sum(-1) for site, mask in masks.items())
        return run(self, forward, masks, **options)

    monkeypatch.setattr(RecordedForward, "run", watched)
    inference_gap(passes_, rate=0.25, divergence="kl", samples=3)
    random = seen[:-3]  # three samples, and the worst of them
    assert [drops.tolist() for drops in random] == 4 * [[5], [2] * BATCH, [2] * 4 * UNITS]
    assert [int(drops.max()) <= most for drops, most in zip(seen[-3:], (5, 2, 2), strict=True)] == [True] * 3


SAMPLES = 4


def drawn_masks(rows: int, drops: int) -> list[Tensor]:
    """The random masks of `passes`, with so many drops."""
    generator = torch.Generator().manual_seed(2)
    dropped = [torch.rand(rows, UNITS, generator=generator).topk(drops).indices for _ in range(SAMPLES)]
    return [torch.ones(rows, UNITS, dtype=torch.float64).scatter(-1, each, 0) for each in dropped]


def predictions(net: Net, x: Tensor, kind: str = "recurrent") -> Tensor:
    """The logits under each of the random masks with two drops, ``(SAMPLES, B, 3)``."""
    (site,), found = find_sites(net, kind), []
    for mask in drawn_masks(BATCH if kind == "recurrent" else 4 * UNITS, 2):
        with apply(net, {site: rescale_mask(mask)}):
            found.append(net(x))
    return torch.stack(found).detach()


WEIGHT = torch.tensor([1.0, 0.0, 1.0, 0.5, 2.0], dtype=torch.float64)
# By hand, of base logits and others (..., 3): the divergence of each example, and the mean of several as logits.
BY_HAND: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "kl": (
        lambda p, q: (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1),
        lambda each: each.softmax(-1).mean(0).log(),
    ),
    "bernoulli_kl": (
        lambda p, q: (
            p.sigmoid() * (p.sigmoid() / q.sigmoid()).log() + (-p).sigmoid() * ((-p).sigmoid() / (-q).sigmoid()).log()
        ).sum(-1),
        lambda each: each.sigmoid().mean(0).logit(),
    ),
    "mse_probs": (
        lambda p, q: (p.softmax(-1) - q.softmax(-1)).square().mean(-1),
        lambda each: each.softmax(-1).mean(0).log(),
    ),
    "mse_logits": (lambda p, q: (p - q).square().mean(-1), lambda each: each.mean(0)),
    "mse": (lambda p, q: (p - q).square().mean(-1), lambda each: each.mean(0)),
}


@pytest.mark.parametrize("direction", ["base_adv", "adv_base"])
@pytest.mark.parametrize("name", BY_HAND)
def test_the_mean_prediction_and_the_worst_of_the_random_masks_by_hand(name: Any, direction: Any) -> None:
    net, x = network()
    gap = inference_gap(passes(net, x, weight=WEIGHT), 0.25, name, direction, SAMPLES)
    base, others, (distance, mean) = net(x).detach(), predictions(net, x), BY_HAND[name]

    def of(other: Tensor) -> Tensor:
        return distance(base, other) if direction == "base_adv" else distance(other, base)

    share = WEIGHT / WEIGHT.sum()
    each = torch.stack([of(other) for other in others])
    torch.testing.assert_close(gap.samples, each @ share)
    torch.testing.assert_close(gap.mean_prediction, of(mean(others)) @ share)
    torch.testing.assert_close(gap.random_max, each.amax(0) @ share)
    assert 0 < gap.mean_prediction < gap.random < gap.random_max


def test_where_examples_share_a_mask_all_have_the_same_worst_one() -> None:
    net, x = network()
    gap = inference_gap(passes(net, x, "weight"), 0.25, "kl", samples=SAMPLES)
    distance, mean = BY_HAND["kl"]
    others = predictions(net, x, "weight")
    each = torch.stack([distance(net(x).detach(), other) for other in others])
    torch.testing.assert_close(gap.samples, each.mean(1))
    torch.testing.assert_close(gap.random_max, each.mean(1).max())
    torch.testing.assert_close(gap.mean_prediction, distance(net(x).detach(), mean(others)).mean())


@pytest.mark.parametrize("direction", ["base_adv", "adv_base"])
def test_direction_divergence_and_weight_are_followed(direction: Any) -> None:
    net, x = network()
    weight = torch.tensor([1.0, 0.0, 1.0, 0.0, 2.0])
    every_row = passes(net, x, weight=weight)
    gap = inference_gap(every_row, rate=0.25, direction=direction, divergence="mse_probs", samples=2, steps=2)
    generator = torch.Generator().manual_seed(2)
    (site,) = find_sites(net, "recurrent")
    for value in gap.samples:
        dropped = torch.rand(BATCH, UNITS, generator=generator).topk(2).indices
        mask = torch.ones(BATCH, UNITS, dtype=torch.float64).scatter(-1, dropped, 0)
        with apply(net, {site: rescale_mask(mask)}):
            other = net(x)
        torch.testing.assert_close(value, mse_probs(net(x), other, weight).detach())


def test_kl_knows_its_direction() -> None:
    net, x = network()
    one, other = (inference_gap(passes(net, x), 0.25, "kl", direction=d, samples=1) for d in ("base_adv", "adv_base"))
    assert one.random != other.random
    assert one.adversarial != other.adversarial


def test_a_site_has_a_budget_of_its_own_and_nothing_to_drop_is_no_gap() -> None:
    net, x = network()
    none = inference_gap(passes(net, x), rate=0.0, divergence="kl", samples=2)
    assert (none.random.item(), none.adversarial.item(), none.samples.tolist()) == (0, 0, [0, 0])
    assert (none.random_max.item(), none.mean_prediction.item()) == (0, 0)
    own = inference_gap(passes(net, x, {"recurrent": 0.25, "weight": 0.0}), rate=0.9, divergence="kl")
    assert same(own, inference_gap(passes(net, x), rate=0.25, divergence="kl"))


def test_nothing_has_a_graph_and_the_same_generator_gives_the_same_values() -> None:
    net, x = network()
    state = torch.get_rng_state()
    first, second = (inference_gap(passes(net, x), divergence="kl") for _ in range(2))
    assert not any(value.requires_grad for value in vars(first).values())
    assert same(first, second)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_half_precision_is_compared_in_single() -> None:
    net, x = network()
    gap = inference_gap(passes(net.bfloat16(), x), rate=0.0)
    assert gap.random.dtype is torch.float32


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"rate": 1.5}, ("rate", "[0, 1]", 1.5)),
        ({"divergence": "ce"}, ("divergence", "two", "'ce'")),
        ({"divergence": "js"}, ("divergence", "kl, bernoulli_kl, mse, mse_logits, mse_probs, ce", "'js'")),
        ({"direction": "up"}, ("direction", "base_adv, adv_base", "'up'")),
        ({"samples": 0}, ("samples", 1, 0)),
        ({"steps": 0}, ("steps", 1, 0)),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        inference_gap(passes(*network()), **arguments)


def test_the_networks_own_dropout_must_be_off() -> None:
    net, x = network()
    with refused("sites", "dropout:dropout", "eval mode"):
        inference_gap(passes(net.train(), x, "dropout"), divergence="kl")
    with refused("sites", "none", "dropout:dropout"):
        inference_gap(passes(net.eval(), x, "dropout"), divergence="kl")


@pytest.mark.gpu
def test_cudnn_does_not_stand_in_the_way() -> None:
    """Its recurrent layers have no backward pass in eval mode; the second layer here is not masked."""
    torch.manual_seed(0)
    net, x = nn.LSTM(4, UNITS, num_layers=2).eval().cuda(), torch.randn(6, BATCH, 4, device="cuda")
    recorded = RecordedForward(net, find_sites(net, "l0:recurrent"), share_noise=True)
    with recorded.first_run(), torch.no_grad():
        base = net(x)[0][-1]
    gap = inference_gap(Passes(recorded, lambda: net(x)[0][-1], base), rate=0.25, divergence="kl")
    assert isinstance(gap, InferenceGap)
    assert gap.adversarial > gap.random > 0

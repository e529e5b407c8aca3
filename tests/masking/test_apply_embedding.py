"""Embedding tables under masks and perturbations, and what is added to the input of recurrent layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_advdrop.masking import MaskSite, Perturbation, SiteValue, find_sites
from lightning_advdrop.masking import apply as apply_masks
from tests.helpers.messages import refused
from tests.helpers.models_recurrent import random_mask
from tests.helpers.recording import by_name, computed, record

WORDS, WIDTH = 7, 3


class Tied(nn.Module):
    """A table used three times: to look up, to look up again, and as the weight of the output layer."""

    def __init__(self, padding_idx: int | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH, padding_idx).double()

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.table(words) + self.table(words.flip(-1)).tanh()
        return F.linear(hidden, self.table.weight)


@pytest.mark.parametrize("padding_idx", [None, 0])
def test_a_mask_is_multiplied_onto_the_table_that_is_looked_up(padding_idx: int | None) -> None:
    model, words = Tied(padding_idx), torch.randint(WORDS, (4, 5))
    (site,) = find_sites(model, "embedding")
    mask = random_mask(WORDS, 1).requires_grad_()
    with apply_masks(model, {site: mask}):
        output = model(words)
    table: Any = model.table.weight
    masked = table * mask
    looked_up = F.embedding(words, masked, padding_idx), F.embedding(words.flip(-1), masked, padding_idx)
    expected = F.linear(looked_up[0] + looked_up[1].tanh(), table)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    found, wanted = (torch.autograd.grad(y.square().sum(), [mask, table]) for y in (output, expected))
    if padding_idx is None:
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    else:  # where padding gets no gradient, no more does its mask
        torch.testing.assert_close(found[0][1:], wanted[0][1:], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-10, atol=1e-10)


class LookUp(nn.Module):
    """Looks up in a table by a function."""

    def __init__(self, function: Any, **kwargs: Any) -> None:
        super().__init__()
        self.table, self.function, self.kwargs = nn.Embedding(WORDS, WIDTH), function, kwargs
        self.before = nn.Linear(1, 1)

    def forward(self, words: Tensor) -> Tensor:
        offset = self.before(torch.ones(1, 1))
        found: Tensor = self.function(words, self.table.weight, **self.kwargs)
        return found.add(offset)


def below(words: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return torch.embedding(weight, words, 2)


@pytest.mark.parametrize(
    ("function", "kwargs", "padding"),
    [
        (F.embedding, {}, None),
        (F.embedding, {"padding_idx": 2}, 2),
        (F.embedding, {"padding_idx": -1}, WORDS - 1),
        (below, {}, 2),
        (lambda words, weight: torch.embedding(weight, words), {}, None),
        (lambda words, weight: F.embedding(input=words, weight=weight, padding_idx=2), {}, 2),
        (lambda words, weight: torch.embedding(weight=weight, indices=words, padding_idx=2), {}, 2),
    ],
)
def test_functions_that_look_up(function: Any, kwargs: dict[str, Any], padding: int | None) -> None:
    model, words = LookUp(function, **kwargs), torch.tensor([[0, 2, 6], [2, 2, 1]])
    recorded, _ = record(model, lambda: model(words), "embedding")
    (seen,) = recorded.observed.values()
    expected = None if padding is None else [[[word != padding] for word in row] for row in words.tolist()]
    assert (None if seen.real is None else seen.real.tolist()) == expected
    mask = torch.rand(WORDS, 1)
    (gradient,) = torch.autograd.grad(recorded.run(lambda: model(words), {seen.site: mask}).sum(), model.table.weight)
    (plain,) = torch.autograd.grad(model(words).sum(), model.table.weight)
    torch.testing.assert_close(gradient, plain * mask)
    assert computed(recorded, lambda: model(words), {seen.site: mask}, "linear") == (0,)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bags(mode: str) -> None:
    bag = nn.EmbeddingBag(WORDS, WIDTH, mode=mode).double()
    (site,) = find_sites(bag, "embedding")
    words, mask = torch.randint(WORDS, (4, 5)), random_mask(WORDS, 1)
    with apply_masks(bag, {site: mask}):
        output = bag(words)
    looked_up = F.embedding(words, bag.weight * mask)
    expected = looked_up.amax(1) if mode == "max" else getattr(looked_up, mode)(1)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)


def test_a_perturbation_of_a_bag_is_added_to_its_output() -> None:
    bag = nn.EmbeddingBag(WORDS, WIDTH, mode="sum").double()
    words = torch.randint(WORDS, (4, 5))
    recorded, _ = record(bag, lambda: bag(words), "embedding")
    (site,) = recorded.observed
    value = torch.randn(recorded.observed[site].activation, dtype=torch.float64)
    found = recorded.run(lambda: bag(words), {site: Perturbation(value)})
    torch.testing.assert_close(found, bag.weight[words].sum(1) + value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("share_noise", [True, False])
def test_a_perturbation_is_added_to_what_was_looked_up(share_noise: bool) -> None:
    table, linear = nn.Embedding(WORDS, WIDTH).double(), nn.Linear(WIDTH, 2).double()
    model, words = nn.Sequential(table, linear), torch.randint(WORDS, (4, 5))
    recorded, _ = record(model, lambda: model(words), "embedding", share_noise=share_noise)
    (site,) = recorded.observed
    for _ in range(2):
        value = torch.randn(4, 5, WIDTH, dtype=torch.float64, requires_grad=True)
        found = recorded.run(lambda: model(words), {site: Perturbation(value)})
        torch.testing.assert_close(found, linear(table(words) + value), rtol=1e-10, atol=1e-10)
        (gradient,) = torch.autograd.grad(found.sum(), value)
        torch.testing.assert_close(gradient, linear.weight.sum(0).expand_as(value), rtol=1e-10, atol=1e-10)


class Computed(nn.Embedding):
    """Looks up in a table that it computes from its weight; and, before, in another one that is a parameter."""

    def __init__(self) -> None:
        super().__init__(WORDS, WIDTH, padding_idx=0)
        self.other = nn.Parameter(torch.randn(WORDS, WIDTH))

    def forward(self, words: Tensor) -> Tensor:
        return F.embedding(words, self.other) * F.embedding(words, self.weight.tanh(), self.padding_idx)


def test_a_table_that_is_computed_belongs_to_the_running_module() -> None:
    model, words = nn.Sequential(Computed(), nn.Linear(WIDTH, 2)).double(), torch.randint(WORDS, (4, 5))
    recorded, _ = record(model, lambda: model(words), "embedding")
    (site,) = recorded.observed
    assert site.name == "0:embedding"
    real: Any = recorded.observed[site].real
    assert torch.equal(real.squeeze(-1), words != 0)
    embedding: Any = model[0]
    other, found = (F.embedding(words, weight) for weight in (embedding.other, embedding.weight.tanh()))
    value, mask = torch.randn(4, 5, WIDTH, dtype=torch.float64), random_mask(WORDS, 1)
    for applied, expected in ((Perturbation(value), found + value), (mask, found * mask[words])):
        result = recorded.run(lambda: model(words), {site: applied})
        torch.testing.assert_close(result, model[1](other * expected), rtol=1e-10, atol=1e-10)


def test_a_computed_table_of_a_bag() -> None:
    class Bag(nn.EmbeddingBag):
        def forward(self, words: Tensor, *_: Any) -> Tensor:
            return F.embedding_bag(words, self.weight.tanh(), mode="sum")

    bag, words, mask = Bag(WORDS, WIDTH).double(), torch.randint(WORDS, (4, 5)), random_mask(WORDS, 1)
    (site,) = find_sites(bag, "embedding")
    with apply_masks(bag, {site: mask}):
        output = bag(words)
    torch.testing.assert_close(output, (bag.weight.tanh() * mask)[words].sum(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("layer", [nn.LSTM(3, 4, 2), nn.GRU(3, 4), nn.RNN(3, 4)])
def test_a_perturbation_of_the_input(layer: Any, packed: bool) -> None:
    x = torch.randn(5, 2, 3)
    given: Any = pack_padded_sequence(x, torch.tensor([5, 3])) if packed else x
    recorded, _ = record(layer, lambda: layer(given)[0], ["input", "recurrent"])
    sites = {site.kind: site for site in recorded.observed}
    value = torch.randn(recorded.observed[sites["input"]].activation, requires_grad=True)
    recurrent = random_mask(2, 4, dtype=torch.float32)
    perturbations: dict[MaskSite, SiteValue] = {sites["input"]: Perturbation(value)}
    for masks in (perturbations, {**perturbations, sites["recurrent"]: recurrent}):
        found = recorded.run(lambda: layer(given)[0], masks)
        perturbed = given._replace(data=given.data + value) if packed else given + value
        with apply_masks(layer, {site: mask for site, mask in masks.items() if isinstance(mask, Tensor)}):
            expected = layer(perturbed)[0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        (gradient,) = torch.autograd.grad(found.data.square().sum() if packed else found.square().sum(), value)
        assert gradient.abs().sum() > 0


def test_a_perturbation_elsewhere_is_refused() -> None:
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    (site,) = find_sites(lstm, "recurrent")
    with (
        refused("sites", "'embedding'", "'input'", "'l0:recurrent'"),
        apply_masks(lstm, {site: Perturbation(torch.zeros(2, 4))}),
    ):
        lstm(x)


def test_a_perturbation_of_another_shape_is_refused() -> None:
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    (site,) = find_sites(lstm, "input")
    with (
        refused("masks", "perturbation", ":input", (5, 2, 3), (2, 1, 3)),
        apply_masks(lstm, {site: Perturbation(torch.zeros(2, 1, 3))}),
    ):
        lstm(x)


def test_words_are_one_row_of_a_mask() -> None:
    model = nn.Embedding(WORDS, WIDTH)
    recorded, _ = record(model, lambda: model(torch.randint(WORDS, (4, 5))), "embedding")
    seen = by_name(recorded)[":embedding"]
    assert (seen.shape, seen.activation, seen.site.units) == ((WORDS, 1), (4, 5, WIDTH), WORDS)
    dropped = seen.site.drop_one(seen.ones())
    assert dropped.sum() == WORDS - 1
    torch.testing.assert_close(seen.site.rescale(dropped), dropped * WORDS / (WORDS - 1))

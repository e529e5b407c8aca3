"""Embeddings normalised by frequency, and locked dropout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck

from lightning_advdrop.masking import Perturbation, find_sites
from lightning_advdrop.nn import LockedDropout, NormalizedEmbedding
from tests.helpers.messages import refused
from tests.helpers.recording import record

COUNTS = [0, 5, 3, 1, 1]


def reference(weight: Tensor, counts: list[int]) -> Tensor:
    """The vectors of a text in which each word stands as often as it was counted, normalised by their own moments."""
    text = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    vectors = weight[text]
    return (weight - vectors.mean(0)) / (vectors.var(0, correction=0) + 1e-6).sqrt()


@pytest.mark.parametrize("counts", [COUNTS, [1, 1, 1, 1, 1]])
def test_the_table_is_normalised_by_the_words_frequencies(counts: list[int]) -> None:
    embedding = NormalizedEmbedding(counts, 3).double()
    embedding.frequencies = torch.tensor(counts).double() / sum(counts)
    words = torch.tensor([[0, 1], [3, 3]])
    expected = reference(embedding.weight, counts)
    torch.testing.assert_close(embedding.table(), expected)
    torch.testing.assert_close(embedding(words), expected[words])
    found = torch.autograd.grad(embedding(words).cos().sum(), embedding.weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected[words].cos().sum(), embedding.weight))
    assert gradcheck(lambda weight: torch.func.functional_call(embedding, {"weight": weight}, words), embedding.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_works_under_any_default_precision(dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        embedding = NormalizedEmbedding(COUNTS, 3)
    finally:
        torch.set_default_dtype(before)
    assert embedding.frequencies.dtype is embedding.table().dtype is dtype
    torch.testing.assert_close(embedding.frequencies, torch.tensor(COUNTS, dtype=dtype) / sum(COUNTS))
    torch.testing.assert_close(embedding.table(), reference(embedding.weight, COUNTS))


def test_autocast_leaves_the_table_its_precision() -> None:
    embedding = NormalizedEmbedding([1_000_000, *[1] * 50], 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(embedding.table(), embedding.table().float())
        found = embedding(torch.arange(51))
    assert torch.equal(found, embedding.table())


def test_a_linear_change_of_the_raw_table_changes_nothing() -> None:
    embedding, words = NormalizedEmbedding(COUNTS, 3), torch.tensor([1, 4])
    before = embedding(words)
    with torch.no_grad():
        embedding.weight.mul_(torch.tensor([2.0, 5.0, 1.0])).add_(7)
    torch.testing.assert_close(embedding(words), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share_noise", [False, True])
def test_what_is_added_at_its_site_is_added_to_the_normalised_vectors(share_noise: bool) -> None:
    model = nn.Sequential(NormalizedEmbedding(COUNTS, 3, padding_idx=0), nn.Linear(3, 2))
    words, value = torch.tensor([[1, 4, 0], [2, 2, 3]]), torch.randn(2, 3, 3, requires_grad=True)
    recorded, _ = record(model, lambda: model(words), "embedding", share_noise=share_noise)
    (seen,) = recorded.observed.values()
    assert seen.real is not None
    assert torch.equal(seen.real.squeeze(-1), words != 0)
    found = recorded.run(lambda: model(words), {seen.site: Perturbation(value)})
    table: NormalizedEmbedding = model[0]  # type: ignore[assignment]
    torch.testing.assert_close(found, model[1](reference(table.weight, COUNTS)[words] + value), rtol=1e-4, atol=1e-5)
    assert torch.autograd.grad(found.sum(), value)[0].abs().sum() > 0


def test_a_mask_drops_whole_words_of_the_normalised_table() -> None:
    model, words = NormalizedEmbedding(COUNTS, 3), torch.tensor([[1, 4, 0], [2, 2, 3]])
    recorded, _ = record(model, lambda: model(words), "embedding")
    (site,) = recorded.observed
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.5]).unsqueeze(1)
    found = recorded.run(lambda: model(words), {site: mask})
    torch.testing.assert_close(found, reference(model.weight, COUNTS)[words] * mask[words], rtol=1e-4, atol=1e-5)


def test_other_vectors_are_taken() -> None:
    embedding = NormalizedEmbedding(COUNTS, 3)
    vectors = torch.randn(5, 3) * 3 + 10
    vectors[2] = 0
    raw = embedding.weight.detach().clone()
    embedding.take(vectors)
    known = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(embedding.weight[known], vectors[known])
    deviation, mean = vectors[known].std(0, correction=0), vectors[known].mean(0)
    torch.testing.assert_close(embedding.weight[2], raw[2] * deviation + mean)


@pytest.mark.parametrize(
    ("vectors", "parts"),
    [
        (torch.ones(5, 2), ("vectors", (5, 3), "embedding_dim", (5, 2))),
        (torch.zeros(5, 3), ("vectors", "row", "zeros")),
    ],
)
def test_other_vectors_must_fit(vectors: Tensor, parts: tuple[object, ...]) -> None:
    with refused(*parts):
        NormalizedEmbedding(COUNTS, 3).take(vectors)


@pytest.mark.parametrize(("counts", "got"), [([], "none"), ([3, -1], -1), ([0, 0], 0)])
def test_counts_are_checked(counts: list[int], got: object) -> None:
    with refused("counts", 0, 0, got):
        NormalizedEmbedding(counts, 3)


@pytest.mark.parametrize("time_dim", [0, 1])
def test_dropout_is_locked_over_the_steps(time_dim: int) -> None:
    dropped = LockedDropout(0.5, time_dim)(torch.ones(6, 7, 100)).unbind(time_dim)
    assert all(torch.equal(step, dropped[0]) for step in dropped)
    assert dropped[0].unique().tolist() == [0.0, 2.0]
    assert not torch.equal(dropped[0][0], dropped[0][1])


def test_dropout_does_nothing_in_evaluation() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(LockedDropout(0.5).eval()(x), x)
    assert torch.equal(LockedDropout(0.0)(x), x)


def test_locked_dropout_is_a_site() -> None:
    model, x = nn.Sequential(LockedDropout(0.5), nn.Linear(4, 2)), torch.randn(2, 3, 4)
    (site,) = find_sites(model, "dropout")
    recorded, _ = record(model, lambda: model(x), "dropout")
    (seen,) = recorded.observed.values()
    assert (seen.site.name, seen.shape, site.name) == ("0:dropout", (2, 1, 4), "0:dropout")
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(2, 1, 4)
    found = recorded.run(lambda: model(x), {seen.site: mask})
    torch.testing.assert_close(found, F.linear(x * mask, model[1].weight, model[1].bias))  # type: ignore[arg-type]

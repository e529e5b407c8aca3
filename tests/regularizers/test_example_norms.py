"""Each example has a perturbation of one norm, wherever embeddings hold the examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from lightning_advdrop.functional import cross_entropy_to_label, flip_budget
from lightning_advdrop.masking import Perturbation, RecordedForward
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    RandomPerturbation,
    VirtualAdversarialTraining,
)
from tests.helpers.messages import refused

Forward = Callable[[Any, Tensor], Any]

BATCH, STEPS, WIDTH, CLASSES, WORDS = 3, 5, 4, 6, 11


class Reading(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.words, self.positions, self.types = (nn.Embedding(n, WIDTH) for n in (WORDS, 20, 2))
        self.bag = nn.EmbeddingBag(WORDS, WIDTH)
        self.lstm, self.head, self.run = nn.LSTM(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES), forward
        self.double()

    def forward(self, words: Tensor) -> Any:
        return self.run(self, words)


LENGTHS = torch.tensor([2, 5, 4])


def packed_after(m: Any, words: Tensor) -> Any:
    packed = pack_padded_sequence(m.words(words), LENGTHS, batch_first=True, enforce_sorted=False)
    return m.head(m.lstm(packed)[1][0][0])


def packed_before(m: Any, words: Tensor) -> Any:
    packed = pack_padded_sequence(words, LENGTHS, batch_first=True, enforce_sorted=False)
    return m.head(m.lstm(PackedSequence(m.words(packed.data), *packed[1:]))[1][0][0])


def packed_by_hand(m: Any, words: Tensor) -> Any:
    """As if a loader had packed the batch; only the layer shows its batch sizes."""
    order = LENGTHS.argsort(descending=True)
    rows = [words[i, t] for t in range(words.shape[1]) for i in order if t < LENGTHS[i]]
    sizes = torch.tensor([int((t < LENGTHS).sum()) for t in range(words.shape[1])])
    packed = PackedSequence(m.words(torch.stack(rows)), sizes, order, order.argsort())
    return m.head(m.lstm(packed)[1][0][0])


def time_first_words(m: Any, words: Tensor) -> Any:
    return m.head(m.words(words.T).tanh().mean(0))


def flat_words(m: Any, words: Tensor) -> Any:
    return m.head(m.words(words.flatten()).tanh().view(*words.shape, -1).mean(1))


def sentences(m: Any, words: Tensor) -> Any:
    """Two for each document, of as many words as there are documents."""
    parts = torch.stack([words[:, :BATCH], words[:, -BATCH:]], 1)
    return m.head(m.words(parts.flatten(0, 1)).tanh().mean(1).view(len(words), 2, -1).mean(1))


def tagged_time_first(m: Any, words: Tensor) -> Any:
    return m.head(m.words(words.T).tanh().cumsum(0)).transpose(0, 1)


ROWS: dict[Forward, Callable[[Tensor], list[Tensor]]] = {
    packed_after: lambda value: [value[i].flatten() for i in range(BATCH)],
    time_first_words: lambda value: [value[:, i].flatten() for i in range(BATCH)],
    flat_words: lambda value: list(value.view(BATCH, -1)),
    sentences: lambda value: list(value.view(BATCH, -1)),
    tagged_time_first: lambda value: [value[:, i].flatten() for i in range(BATCH)],
}


def packed_norms(value: Tensor) -> list[Tensor]:
    sizes = [int((t < LENGTHS).sum()) for t in range(int(LENGTHS.max()))]
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    return [torch.cat([value[s + i] for s, n in zip(starts, sizes, strict=True) if i < n]) for i in range(BATCH)]


ROWS |= dict.fromkeys((packed_before, packed_by_hand), packed_norms)


def words_of(batch: int = BATCH, steps: int = STEPS) -> Tensor:
    return torch.randint(WORDS, (batch, steps), generator=torch.Generator().manual_seed(0))


def perturbed(
    monkeypatch: pytest.MonkeyPatch, method: Any, model: nn.Module, words: Tensor, sites: Any = "embedding"
) -> dict[str, Tensor]:
    """What the last pass added, by the names of the sites."""
    given: list[dict[str, Tensor]] = []
    run = RecordedForward.run

    def spied(recorded: RecordedForward, forward: Any, masks: Any, **kwargs: Any) -> Any:
        given.append({site.name: shift.value for site, shift in masks.items() if isinstance(shift, Perturbation)})
        return run(recorded, forward, masks, **kwargs)

    monkeypatch.setattr(RecordedForward, "run", spied)
    target = torch.arange(len(words)) % CLASSES
    target = target.unsqueeze(1).expand_as(words) if model(words).dim() == 3 else target
    method(lambda: model(words), model, sites, target=target, generator=torch.Generator().manual_seed(0))
    monkeypatch.undo()
    return given[-1]


@pytest.mark.parametrize("steps", [STEPS, BATCH])
@pytest.mark.parametrize("method", [RandomPerturbation, VirtualAdversarialTraining, AdversarialTraining])
@pytest.mark.parametrize("forward", ROWS)
def test_the_norm_of_each_example(monkeypatch: pytest.MonkeyPatch, forward: Forward, method: Any, steps: int) -> None:
    torch.manual_seed(0)
    if forward in {packed_after, packed_before, packed_by_hand}:
        steps = STEPS
    added = perturbed(monkeypatch, method(epsilon=2.0), Reading(forward), words_of(steps=steps), "words:embedding")
    norms = torch.stack([row.norm() for row in ROWS[forward](added["words:embedding"])])
    torch.testing.assert_close(norms, torch.full((BATCH,), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("forward", [packed_before, packed_by_hand, flat_words, time_first_words])
def test_adversarial_training_against_single_examples(monkeypatch: pytest.MonkeyPatch, forward: Forward) -> None:
    """Each example's perturbation is its own gradient of the loss, of norm epsilon."""
    torch.manual_seed(0)
    model, words = Reading(forward), words_of()
    added = perturbed(monkeypatch, AdversarialTraining(epsilon=2.0), model, words)
    own = ROWS[forward](added["words:embedding"])
    order = LENGTHS.argsort(descending=True).tolist() if forward in {packed_before, packed_by_hand} else range(BATCH)
    for row, i in zip(own, order, strict=True):
        steps = int(LENGTHS[i]) if forward in {packed_before, packed_by_hand} else STEPS
        embedded = model.words(words[i : i + 1, :steps]).detach().requires_grad_()
        if forward in {packed_before, packed_by_hand}:
            logits = model.head(model.lstm(embedded.transpose(0, 1))[0][-1])
        else:
            logits = model.head(embedded.tanh().mean(1))
        (gradient,) = torch.autograd.grad(cross_entropy_to_label(logits, torch.tensor([i])), embedded)
        torch.testing.assert_close(row, 2.0 * gradient.flatten() / gradient.norm())


def summed(m: Any, words: Tensor) -> Any:
    positions = torch.arange(words.shape[1]).unsqueeze(0)
    x = m.words(words)
    x = x + m.types((words > 4).long())
    x += m.positions(positions)
    return m.head(x.tanh().mean(1))


def summed_scaled(m: Any, words: Tensor) -> Any:
    positions = m.positions(torch.arange(words.shape[1])).unsqueeze(0)
    return m.head((positions + m.types((words > 4).long()) + F.dropout(m.words(words) * 2, 0.0)).tanh().mean(1))


def summed_by_keywords(m: Any, words: Tensor) -> Any:
    x = torch.add(m.types((words > 4).long()), other=m.words(words))
    return m.head(torch.add(input=m.positions(torch.arange(words.shape[1])), other=x).tanh().mean(1))


def joined(m: Any, words: Tensor) -> Any:
    positions = m.positions(torch.arange(words.shape[1]).unsqueeze(0))
    return m.head((m.words(words) * positions).tanh().mean(1))


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (summed, "words:embedding"),
        (summed_scaled, "types:embedding"),
        (summed_by_keywords, "types:embedding"),
        (joined, "words:embedding"),
    ],
)
@pytest.mark.parametrize("steps", [STEPS, BATCH, 2])
def test_one_perturbation_of_embeddings_that_are_added(
    monkeypatch: pytest.MonkeyPatch, forward: Forward, expected: str, steps: int
) -> None:
    """The largest one is perturbed, of equal ones the first; one that is the same for all examples is not."""
    torch.manual_seed(0)
    model = Reading(forward)
    for method in (RandomPerturbation(epsilon=2.0), VirtualAdversarialTraining(2.0), AdversarialTraining(2.0)):
        added = perturbed(monkeypatch, method, model, words_of(steps=steps))
        assert list(added) == [expected]
        torch.testing.assert_close(added[expected].flatten(1).norm(dim=1), torch.full((BATCH,), 2.0).double())


def test_a_table_that_is_named_alone_is_perturbed_where_it_has_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    model, words = Reading(summed), words_of()
    added = perturbed(monkeypatch, RandomPerturbation(2.0), model, words, "types:embedding")
    assert added["types:embedding"].shape == (BATCH, STEPS, WIDTH)
    with refused("sites", "for each example", "positions:embedding"):
        perturbed(monkeypatch, RandomPerturbation(2.0), model, words, "positions:embedding")


def siamese(m: Any, words: Tensor) -> Any:
    left, right = m.words(words[:, :2]), m.words(words[:, 2:])
    return m.head(left.tanh().mean(1) * 2 - right.tanh().mean(1))


def test_each_call_of_a_table_has_a_perturbation_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they have the norm, over all that an example looks up."""
    torch.manual_seed(0)
    model, words = Reading(siamese), words_of()
    added = perturbed(monkeypatch, AdversarialTraining(epsilon=2.0), model, words)
    assert {name: value.shape[1] for name, value in added.items()} == {"words:embedding": 2, "words#1:embedding": 3}
    embedded = [model.words(part).detach().requires_grad_() for part in (words[:, :2], words[:, 2:])]
    logits = model.head(embedded[0].tanh().mean(1) * 2 - embedded[1].tanh().mean(1))
    gradients = torch.autograd.grad(cross_entropy_to_label(logits, torch.arange(BATCH)), embedded)
    norms = torch.cat(gradients, 1).flatten(1).norm(dim=1).view(-1, 1, 1)
    for value, gradient in zip(added.values(), gradients, strict=True):
        torch.testing.assert_close(value, 2.0 * gradient / norms)


def of_pairs(m: Any, words: Tensor) -> Any:
    """The sum of each word and the next one, and of a type, which has another table."""
    pairs = m.words(words[:, :-1]) + m.words(words[:, 1:])
    return m.head((m.types((words[:, 1:] > 4).long()) + pairs).tanh().mean(1))


def pairs_and_types(m: Any, words: Tensor) -> Any:
    """The same, in another order of adding and looking up."""
    first = m.words(words[:, :-1]) + m.types((words[:, 1:] > 4).long())
    return m.head((first + m.words(words[:, 1:])).tanh().mean(1))


@pytest.mark.parametrize("forward", [of_pairs, pairs_and_types])
def test_calls_of_one_table_that_are_added_are_all_perturbed(monkeypatch: pytest.MonkeyPatch, forward: Forward) -> None:
    torch.manual_seed(0)
    added = perturbed(monkeypatch, AdversarialTraining(epsilon=2.0), Reading(forward), words_of())
    assert set(added) == {"words:embedding", "words#1:embedding"}
    both = torch.cat(list(added.values()), 1).flatten(1)
    torch.testing.assert_close(both.norm(dim=1), torch.full((BATCH,), 2.0, dtype=torch.float64))


def bags(m: Any, words: Tensor) -> Any:
    return m.head(m.bag(words).tanh())


def bags_by_offset(m: Any, words: Tensor) -> Any:
    offsets = torch.arange(0, words.numel(), words.shape[1])
    return m.head(m.bag(words.flatten(), offsets).tanh())


@pytest.mark.parametrize("forward", [bags, bags_by_offset])
def test_a_bag_is_perturbed_where_it_has_examples(monkeypatch: pytest.MonkeyPatch, forward: Forward) -> None:
    torch.manual_seed(0)
    model, words = Reading(forward), words_of()
    added = perturbed(monkeypatch, AdversarialTraining(epsilon=2.0), model, words)
    pooled = model.bag(words).detach().requires_grad_()
    loss = cross_entropy_to_label(model.head(pooled.tanh()), torch.arange(BATCH))
    (gradient,) = torch.autograd.grad(loss, pooled)
    torch.testing.assert_close(added["bag:embedding"], 2.0 * gradient / gradient.norm(dim=1, keepdim=True))


def two_packed(m: Any, words: Tensor) -> Any:
    return packed_before(m, words) + packed_before(m, words.flip(1))


def two_sizes(m: Any, words: Tensor) -> Any:
    return time_first_words(m, words) + m.head(m.words(words[:2, 0]).mean(0))


@pytest.mark.parametrize(
    ("forward", "parts"),
    [(two_packed, ("sites", "called 2 times", "packed")), (two_sizes, ("batch_dim", "words#1:embedding", (2, WIDTH)))],
)
def test_calls_whose_examples_differ_are_refused(forward: Forward, parts: tuple[object, ...]) -> None:
    model, words = Reading(forward), words_of()
    with refused(*parts):
        RandomPerturbation()(lambda: model(words), model, "embedding")


def test_flat_words_that_can_not_be_split_are_refused() -> None:
    def forward(m: Any, words: Tensor) -> Any:
        return m.head(m.words(words.flatten()[1:]).sum(0).expand(BATCH, -1))

    model, words = Reading(forward), words_of()
    with refused("batch_dim", "words:embedding", (BATCH * STEPS - 1, WIDTH), (BATCH, CLASSES), "batch_dim=0"):
        VirtualAdversarialTraining()(lambda: model(words), model, "words:embedding")


@pytest.mark.parametrize("forward", [packed_before, packed_by_hand, time_first_words, flat_words])
def test_a_mask_drops_words_wherever_examples_are(forward: Forward) -> None:
    """The mask of a table has one row, of all words, whatever the layout."""
    torch.manual_seed(0)
    model, words = Reading(forward), words_of()
    method = AdversarialDropout(rate=0.3, divergence="mse")
    passes = method.first_pass(lambda: model(words), model, "words:embedding")
    ((site, mask),) = method.evaluate(passes).masks.items()
    assert mask.shape == (WORDS, 1)
    assert 0 < (mask == 0).sum() <= flip_budget(0.3, WORDS)
    found = passes.run({site: mask})
    with torch.no_grad():
        model.words.weight.mul_(mask)
    torch.testing.assert_close(found, model(words))

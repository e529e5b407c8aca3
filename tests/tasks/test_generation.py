"""Writing text with a language model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.datamodules import Vocabulary
from lightning_advdrop.tasks import LanguageModelingTask, generate
from tests.helpers.messages import refused
from tests.helpers.plain_models import seeded

WORDS = ["<unk>", "<eos>", "the", "bank", "said", "yes"]


def model(words: list[str] | None = None, scale: float = 8.0) -> LanguageModelingTask:
    words = WORDS if words is None else words
    task: LanguageModelingTask = seeded(LanguageModelingTask, len(words), 6, 8, 2)
    task.vocabulary = Vocabulary(words, [1] * len(words), "<unk>" if "<unk>" in words else None)
    with torch.no_grad():
        task.model.embedding.weight.mul_(scale)
    return task


def next_logits(task: LanguageModelingTask, numbers: list[int]) -> Tensor:
    """From the whole text at once, without carried states."""
    task.eval()
    with torch.no_grad():
        logits: Tensor = task(torch.tensor(numbers)[:, None]).logits[-1, 0]
    return logits


def test_greedy_text_takes_the_most_probable_word_each_time() -> None:
    task = model()
    found = generate(task, "the bank", length=6, temperature=0, allow_unknown=True)
    numbers = [2, 3]
    for word in found.words:
        numbers.append(int(next_logits(task, numbers).argmax()))
        assert word == WORDS[numbers[-1]]
    assert not found.replaced


def test_words_are_drawn_as_often_as_they_are_probable() -> None:
    task = model(scale=30.0)
    logits = next_logits(task, [2])
    logits[0] = -torch.inf
    for temperature, top_k in ((1.0, 0), (0.7, 3), (2.0, 2)):
        kept = logits.clone()
        if top_k:
            kept[kept < kept.topk(top_k).values[-1]] = -torch.inf
        wanted = (kept / temperature).softmax(-1)
        drawn = [generate(task, "the", 1, temperature, top_k, seed).words[0] for seed in range(400)]
        counts = torch.tensor([drawn.count(word) / 400 for word in WORDS])
        torch.testing.assert_close(counts, wanted, rtol=0, atol=0.08)
        assert not counts[wanted == 0].any()


def test_the_unknown_word_is_written_only_if_allowed() -> None:
    task = model()
    with torch.no_grad():
        task.model.decoder.bias[0] = 50.0
    assert set(generate(task, "the", 20, allow_unknown=True).words) == {"<unk>"}
    for temperature in (0.0, 1.0):
        assert "<unk>" not in generate(task, "the", 20, temperature, top_k=1).words


def test_a_seed_repeats_the_text_and_leaves_everything_as_it_was() -> None:
    task = model().train()
    state = torch.get_rng_state()
    first = generate(task, "the", seed=3)
    assert task.training
    assert torch.equal(torch.get_rng_state(), state)
    assert generate(task, "the", seed=3) == first
    assert generate(task, "the", seed=4) != first
    assert len(first.words) == 50


def test_ends_of_lines_are_line_breaks() -> None:
    task = model()
    with torch.no_grad():
        task.model.decoder.bias[1] = 50.0
    assert generate(task, "the", 2).text == "\n\n"
    found = generate(task, "yes\nthe", 4, seed=1)
    assert found == generate(task, "yes <eos> the", 4, seed=1)


def test_an_empty_prompt_is_the_beginning_of_a_line() -> None:
    assert generate(model(), " ", 5) == generate(model(), "<eos>", 5)
    with refused("prompt", "vocabulary", "<eos>", "' '"):
        generate(model(WORDS[2:]), " ", 5)


def test_words_outside_the_vocabulary_are_unknown_ones_and_named() -> None:
    found = generate(model(), "the Bank said no no", 4)
    assert found.replaced == ["Bank", "no"]
    assert found.words == generate(model(), "the <unk> said <unk> <unk>", 4).words
    with refused("prompt", "vocabulary", "Bank, no"):
        generate(model(WORDS[1:]), "the Bank said no no", 4)


def test_a_low_temperature_is_nearly_greedy() -> None:
    task = model()
    assert generate(task, "the", 20, 1e-30).words == generate(task, "the", 20, 0).words


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"length": 0}, ("length", 1, 0)),
        ({"temperature": -0.5}, ("temperature", 0, -0.5)),
        ({"temperature": float("nan")}, ("temperature", 0, "nan")),
        ({"top_k": -1}, ("top_k", 1, 0, -1)),
        ({"seed": -1}, ("seed", "[0, 2**63)", -1)),
    ],
    ids=str,
)
def test_arguments_are_checked(options: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        generate(model(), "the", **options)


def test_a_model_without_words_is_refused() -> None:
    with refused("task", "vocabulary", "without"):
        generate(LanguageModelingTask(5, 3, 4, 2), "the")


def test_a_vocabulary_of_nothing_but_the_unknown_word_is_refused() -> None:
    with refused("allow_unknown", "vocabulary", "<unk>", False):
        generate(model(["<unk>"]), "<unk>")

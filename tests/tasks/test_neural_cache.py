"""A language model with a neural cache against a reference that goes word by word."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from lightning_advdrop.tasks import LanguageModelingTask, cache_perplexities, evaluate_neural_cache
from tests.helpers.messages import refused
from tests.helpers.plain_models import seeded
from tests.helpers.reference_neural_cache import with_cache

THETAS, LAMBDAS = [0.0, 0.8], [0.1, 0.4, 0.7]


def model() -> LanguageModelingTask:
    task: LanguageModelingTask = seeded(LanguageModelingTask, 7, 6, 8, 2)
    return task.train()


def text(seed: int, batch_size: int = 2, length: int = 5, words: int = 43) -> ContiguousBatches:
    tokens = torch.randint(7, (words,), generator=torch.Generator().manual_seed(seed))
    return ContiguousBatches(tokens, batch_size, length, pad=True)


def reference(task: LanguageModelingTask, loader: ContiguousBatches, window: int) -> tuple[float, list[list[float]]]:
    """In one pass over each whole column, and then word by word."""
    batches = list(loader)
    tokens, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    task.eval()
    with torch.no_grad():
        output = task(tokens)
    probability = output.logits.double().softmax(-1)
    losses: dict[Any, list[float]] = {}
    for column in range(tokens.shape[1]):
        real = targets[:, column] != -100
        words: Tensor = targets[real, column]
        own = probability[real, column].gather(-1, words[:, None])[:, 0].tolist()
        hidden = output.outputs[real, column].tolist()
        losses.setdefault("alone", []).extend(-math.log(p) for p in own)
        for theta in THETAS:
            for share in LAMBDAS:
                mixed = with_cache(own, hidden, words.tolist(), theta, share, window)
                losses.setdefault((theta, share), []).extend(-math.log(p) for p in mixed)
    perplexity = {name: math.exp(sum(values) / len(values)) for name, values in losses.items()}
    return perplexity["alone"], [[perplexity[theta, share] for share in LAMBDAS] for theta in THETAS]


@pytest.mark.parametrize(("batch_size", "window"), [(1, 3), (1, 100), (2, 8), (4, 1)])
def test_perplexities_are_the_references(batch_size: int, window: int) -> None:
    task, loader = model(), text(1, batch_size)
    alone, cached = cache_perplexities(task, loader, thetas=THETAS, interpolations=LAMBDAS, window=window)
    assert task.training
    wanted_alone, wanted = reference(task, loader, window)
    assert alone == pytest.approx(wanted_alone, rel=1e-5)
    torch.testing.assert_close(cached, torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=0)


def test_settings_are_chosen_on_the_validation_text() -> None:
    task = model()
    options: Any = {"thetas": THETAS, "interpolations": LAMBDAS, "window": 10}
    result = evaluate_neural_cache(task, text(1), text(2, 1), **options)
    alone, cached = cache_perplexities(task, text(1), **options)
    row, column = THETAS.index(result.theta), LAMBDAS.index(result.interpolation)
    assert result.validation == alone
    assert result.validation_cached == cached.min() == cached[row, column]
    test_alone, test_cached = cache_perplexities(task, text(2, 1), **options)
    assert result.test == test_alone
    assert result.test_cached == pytest.approx(float(test_cached[row, column]), rel=1e-12)


def test_a_text_that_repeats_itself_is_predicted_better() -> None:
    tokens = torch.randint(7, (9,)).repeat(30)
    batches = ContiguousBatches(tokens, 1, 20, pad=True)
    alone, cached = cache_perplexities(model(), batches, thetas=[0.0], interpolations=[0.5], window=9)
    assert cached.item() < alone


def test_arguments_are_checked() -> None:
    options: Any = {"thetas": [0.1], "interpolations": [0.1], "window": 0}
    with refused("window", 1, 0):
        evaluate_neural_cache(model(), text(1), text(2), **options)


def test_a_text_without_words_is_refused() -> None:
    with refused("batches", "word", "none"):
        cache_perplexities(model(), [], thetas=[0.1], interpolations=[0.1], window=2)

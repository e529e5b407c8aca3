"""Evaluate a language model together with a neural cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_advdrop.functional import check_neural_cache, neural_cache
from lightning_advdrop.tasks.base_task import evaluating
from lightning_advdrop.tasks.language_modeling import LanguageModelingTask
from lightning_advdrop.tasks.perplexity import IGNORED, TokenPerplexity, token_loss

Batches = Iterable[tuple[Tensor, Tensor]]


class NeuralCacheResult(NamedTuple):
    """The result of `evaluate_neural_cache`: perplexities.

    Attributes:
        theta: the flatness that is best for the validation text.
        interpolation: the cache's share that is best for it.
        validation: of the validation text, without the cache.
        validation_cached: with the cache.
        test: of the test text, without the cache.
        test_cached: with the cache.
    """

    theta: float
    interpolation: float
    validation: float
    validation_cached: float
    test: float
    test_cached: float


def evaluate_neural_cache(
    task: LanguageModelingTask,
    validation: Batches,
    test: Batches,
    *,
    thetas: Sequence[float],
    interpolations: Sequence[float],
    window: int,
) -> NeuralCacheResult:
    """Choose the settings of a neural cache on the validation text, and apply them to the test text.

    Source: Grave, Joulin & Usunier, "Improving Neural Language Models with a Continuous Cache", ICLR 2017
    (arXiv 1612.04426). See `lightning_advdrop.functional.neural_cache` for the formula.

    Args:
        task: the language model; dropout is off, and hidden states are carried through each text.
        validation: batches of the validation text: tokens and the tokens that follow them, ``(T, B)`` each, each
            continuing the one before. Each column has a cache of its own.
        test: batches of the test text.
        thetas: values of the flatness to choose from, each at least 0.
        interpolations: values of the cache's share to choose from, each in [0, 1).
        window: the most pairs in a cache, at least 1.

    Raises:
        ValueError: if an argument is out of its range, or a text has no words.
    """
    alone, cached = cache_perplexities(task, validation, thetas=thetas, interpolations=interpolations, window=window)
    row, column = divmod(int(cached.argmin()), len(interpolations))
    best: dict[str, Any] = {"thetas": [thetas[row]], "interpolations": [interpolations[column]]}
    tested = cache_perplexities(task, test, **best, window=window)
    return NeuralCacheResult(
        thetas[row], interpolations[column], alone, float(cached[row, column]), tested[0], float(tested[1])
    )


def cache_perplexities(
    task: LanguageModelingTask,
    batches: Batches,
    *,
    thetas: Sequence[float],
    interpolations: Sequence[float],
    window: int,
) -> tuple[float, Tensor]:
    """Compute the perplexity of a text without a neural cache and with each of several.

    Memory holds one batch and the window, whatever the length of the text.

    Args:
        task: the language model; dropout is off, and hidden states are carried through the text.
        batches: of the text: tokens and the tokens that follow them, ``(T, B)`` each, each continuing the one before.
            Each column has a cache of its own.
        thetas: values of the flatness, each at least 0.
        interpolations: values of the cache's share, each in [0, 1).
        window: the most pairs in a cache, at least 1.

    Returns:
        The perplexity of the model alone, and those with a cache, ``(len(thetas), len(interpolations))``.

    Raises:
        ValueError: if an argument is out of its range, or the text has no words.
    """
    settings: Any = {"thetas": thetas, "interpolations": interpolations, "window": window}
    check_neural_cache(**settings)
    perplexity = TokenPerplexity(1 + len(thetas) * len(interpolations)).set_dtype(torch.float64).to(task.device)
    past, states = None, None
    with evaluating(task), torch.inference_mode():
        for batch in batches:
            tokens, targets = (part.to(task.device) for part in batch)
            output = task(tokens, states)
            states, outputs = output.states, output.outputs
            own = -token_loss(output.logits, targets, reduction="none")  # (T, B)
            cached = neural_cache(own, outputs, targets, **settings, past=past)
            real = targets != IGNORED
            losses = -torch.cat([own[None], cached.flatten(0, 1)])[:, real].double()
            count = int(real.sum())
            perplexity.update(losses.sum(-1) / max(count, 1), count)
            if past is not None:
                outputs, targets = torch.cat([past[0], outputs]), torch.cat([past[1], targets])
            past = outputs[-window:], targets[-window:]
    if not perplexity.count:
        raise ValueError("batches must hold at least one word, got none.")
    found = perplexity.compute().cpu()
    return float(found[0]), found[1:].view(len(thetas), len(interpolations))

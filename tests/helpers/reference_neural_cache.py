"""The neural cache word by word, in plain Python floats: independent of the package and of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def with_cache(
    probability: Sequence[float],
    outputs: Sequence[Sequence[float]],
    words: Sequence[int],
    theta: float,
    interpolation: float,
    window: int,
) -> list[float]:
    """The probability of each word of one text: the model's, mixed with that of the last pairs before it."""
    mixed = []
    cache: list[tuple[Sequence[float], int]] = []
    for model, output, word in zip(probability, outputs, words, strict=True):
        if cache:
            votes: dict[int, float] = {}
            for key, followed in cache:
                product = sum(one * other for one, other in zip(output, key, strict=True))
                votes[followed] = votes.get(followed, 0.0) + math.exp(theta * product)
            share = votes.get(word, 0.0) / sum(votes.values())
            mixed.append((1 - interpolation) * model + interpolation * share)
        else:
            mixed.append(model)
        cache.append((output, word))
        cache = cache[-window:]
    return mixed

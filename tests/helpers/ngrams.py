"""Baseline of the language models: bigrams with interpolated Kneser-Ney smoothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Text = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
DISCOUNTS = (0.5, 0.6, 0.7, 0.8, 0.9)


def kneser_ney(train: Text, n_words: int, text: Text, discount: float, alpha: float) -> Floats:
    """Return the probability of each word of a text but the first (Kneser & Ney 1995, as in Chen & Goodman 1999).

    ``discount`` is taken from each count of a pair of successive words, and given to the words by their numbers of
    different predecessors, to each of which ``alpha`` is added.

    Args:
        train: Word numbers ``(N,)``, whose pairs are counted.
        n_words: Size of the vocabulary.
        text: Word numbers ``(M,)``.
        discount: In [0, 1].
        alpha: Above 0.

    Returns:
        ``(M - 1,)``.

    Example:
        >>> train = np.random.default_rng(0).integers(0, 5, 60)
        >>> first = [kneser_ney(train, 6, np.array([before, 4]), 0.7, 0.1).item() for before in range(6)]
        >>> every = [kneser_ney(train, 6, np.array([2, after]), 0.7, 0.1).item() for after in range(6)]
        >>> min(first) > 0, round(sum(every), 9)
        (True, 1.0)
    """
    before, after = text[:-1], text[1:]
    pairs, counts = np.unique(train[:-1].astype(np.int64) * n_words + train[1:], return_counts=True)
    followed = np.bincount(train[:-1], minlength=n_words)[before]
    kinds = np.bincount(pairs // n_words, minlength=n_words)[before]
    lower = np.bincount(pairs % n_words, minlength=n_words) + alpha
    wanted = before.astype(np.int64) * n_words + after
    places = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    seen = np.where(pairs[places] == wanted, counts[places], 0)
    kept = (seen - discount).clip(min=0) / followed.clip(min=1)
    given = np.where(followed > 0, discount * kinds / followed.clip(min=1), 1.0)
    return np.asarray(kept + given * (lower / lower.sum())[after])


def perplexities(train: Text, validation: Text, test: Text, n_words: int) -> tuple[float, float]:
    """Return the perplexities on validation and test, with the smoothing that is best on the validation text."""

    def perplexity(text: Text, discount: float, alpha: float) -> float:
        return float(np.exp(-np.log(kneser_ney(train, n_words, text, discount, alpha)).mean()))

    settings = [(discount, alpha) for alpha in ALPHAS for discount in DISCOUNTS]
    scores = [perplexity(validation, *setting) for setting in settings]
    return min(scores), perplexity(test, *settings[int(np.argmin(scores))])

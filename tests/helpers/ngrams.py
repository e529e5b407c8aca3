"""Unigram and interpolated bigram models: what any language model must beat, by counting."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Text = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Model = Callable[[Text, Text], Floats]
"""Probabilities ``(N,)`` of words, given each one's word before and the words."""

ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
DISCOUNTS = (0.5, 0.6, 0.7, 0.8, 0.9)


def unigram(train: Text, n_words: int, alpha: float) -> Floats:
    """Frequencies with ``alpha`` added to each count (Lidstone): probabilities ``(n_words,)``."""
    counts = np.bincount(train, minlength=n_words) + alpha
    return np.asarray(counts / counts.sum(), np.float64)


@dataclass(frozen=True)
class Bigrams:
    """Counts of pairs of successive words.

    Attributes:
        pairs: ``before * n_words + after`` of each pair that occurs, in rising order, ``(P,)``.
        counts: How often each occurs, ``(P,)``.
        totals: How often each word has a successor, ``(n_words,)``.
        kinds: How many different successors each word has, ``(n_words,)``.
        predecessors: How many different predecessors each word has, ``(n_words,)``.
    """

    n_words: int
    pairs: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]
    predecessors: npt.NDArray[np.int64]

    @classmethod
    def count(cls, train: Text, n_words: int) -> "Bigrams":
        pairs, counts = np.unique(train[:-1].astype(np.int64) * n_words + train[1:], return_counts=True)
        return cls(
            n_words,
            pairs,
            counts,
            np.bincount(train[:-1], minlength=n_words),
            np.bincount(pairs // n_words, minlength=n_words),
            np.bincount(pairs % n_words, minlength=n_words),
        )

    def occurrences(self, before: Text, after: Text) -> npt.NDArray[np.int64]:
        """How often ``after`` followed ``before``, ``(N,)``."""
        wanted = before.astype(np.int64) * self.n_words + after
        places = np.searchsorted(self.pairs, wanted).clip(max=len(self.pairs) - 1)
        return np.where(self.pairs[places] == wanted, self.counts[places], 0)

    def witten_bell(self, before: Text, after: Text, lower: Floats) -> Floats:
        """Probabilities ``(N,)`` of Witten & Bell (1991): each new successor so far is a vote for ``lower``."""
        new = self.kinds[before]
        total = self.totals[before] + new
        seen = self.occurrences(before, after)
        return np.where(total > 0, (seen + new * lower[after]) / total.clip(min=1), lower[after])

    def kneser_ney(self, before: Text, after: Text, discount: float, alpha: float) -> Floats:
        """Probabilities ``(N,)`` of interpolated Kneser & Ney (1995, as in Chen & Goodman 1999).

        ``discount`` is taken from each count and given to the words by their numbers of predecessors, to each of which
        ``alpha`` is added.
        """
        lower = (self.predecessors + alpha) / (self.predecessors + alpha).sum()
        total = self.totals[before].clip(min=1)
        kept = (self.occurrences(before, after) - discount).clip(min=0) / total
        given = np.where(self.totals[before] > 0, discount * self.kinds[before] / total, 1.0)
        return np.asarray(kept + given * lower[after])


def perplexity(probabilities: Floats) -> float:
    """Exp of the mean negative log-probability."""
    return float(np.exp(-np.log(probabilities).mean()))


def perplexities(train: Text, validation: Text, test: Text, n_words: int) -> dict[str, tuple[float, float]]:
    """Perplexities on validation and test of each model, whose numbers are chosen on the validation text.

    As for a recurrent network, every word but the first of a text is predicted.
    """
    bigrams = Bigrams.count(train, n_words)

    def frequencies(alpha: float) -> Model:
        return lambda before, after: unigram(train, n_words, alpha)[after]

    def witten_bell(alpha: float) -> Model:
        return lambda before, after: bigrams.witten_bell(before, after, unigram(train, n_words, alpha))

    def kneser_ney(alpha: float, discount: float) -> Model:
        return lambda before, after: bigrams.kneser_ney(before, after, discount, alpha)

    candidates = {
        "unigram": [frequencies(alpha) for alpha in ALPHAS],
        "bigram, Witten-Bell": [witten_bell(alpha) for alpha in ALPHAS],
        "bigram, Kneser-Ney": [kneser_ney(alpha, discount) for alpha in ALPHAS for discount in DISCOUNTS],
    }
    found = {}
    for name, models in candidates.items():
        scores = [perplexity(model(validation[:-1], validation[1:])) for model in models]
        best = models[int(np.argmin(scores))]
        found[name] = (min(scores), perplexity(best(test[:-1], test[1:])))
    return found

"""Normalised word embeddings and locked dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Added to the variance, as published.
_EPSILON = 1e-6


def check_indices(name: str, indices: Tensor, count: int) -> None:
    """Check word indices before they are looked up.

    Their range is checked on the CPU only: on other devices the check would wait for the device.

    Args:
        name: the argument, for the message.
        indices: of any shape.
        count: the number of words.

    Raises:
        ValueError: if they are no integers, or one is below 0 or at least ``count``.

    Example:
        >>> check_indices("tokens", torch.tensor([[0, 9]]), 9)
        Traceback (most recent call last):
        ...
        ValueError: tokens must be from 0 to 8, got 9.
    """
    if indices.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must be int64, got {str(indices.dtype).removeprefix('torch.')}.")
    if indices.device.type == "cpu" and indices.numel() and not torch.compiler.is_compiling():
        low, high = (int(each) for each in torch.aminmax(indices))
        if low < 0 or high >= count:
            raise ValueError(f"{name} must be from 0 to {count - 1}, got {low if low < 0 else high}.")


class NormalizedEmbedding(nn.Embedding):
    """An embedding whose features have mean 0 and variance 1 over the words, weighted by their frequency.

    Each forward normalises the raw table, with gradients through mean and variance. The network can't make a
    perturbation of a given norm, as in virtual adversarial training, harmless by larger vectors. A mask or
    `lightning_advdrop.masking.Perturbation` at its site acts on the normalised vectors.

    Source: Miyato, Dai & Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", ICLR 2017
    (arXiv 1605.07725), equation 1.

    Args:
        counts: the number of occurrences of each of the ``V`` words, at least 0 and not all 0.
        embedding_dim: the width of the embeddings.
        padding_idx: the index of the padding word, whose lookups give no gradient; None for none.

    Attributes:
        frequencies: each word's share of all occurrences, ``(V,)``, a buffer.

    Raises:
        ValueError: if a count is negative, or none is positive.

    Example:
        >>> embedding = NormalizedEmbedding([6, 3, 1], embedding_dim=4)
        >>> text = torch.tensor([0] * 6 + [1] * 3 + [2])
        >>> vectors = embedding(text)
        >>> bool(vectors.mean(0).abs().max() < 1e-5), bool((vectors.var(0, correction=0) - 1).abs().max() < 1e-3)
        (True, True)
    """

    frequencies: Tensor

    def __init__(self, counts: Sequence[int], embedding_dim: int, padding_idx: int | None = None) -> None:
        numbers = torch.as_tensor(counts, dtype=torch.float64)
        if not len(numbers) or numbers.min() < 0 or not numbers.sum() > 0:
            lowest = f"{len(numbers)} counts, the smallest {numbers.min().item():g}" if len(numbers) else "none"
            raise ValueError(f"counts must be at least 0 and not all 0, one for each word, got {lowest}.")
        super().__init__(len(numbers), embedding_dim, padding_idx)
        self.register_buffer("frequencies", (numbers / numbers.sum()).to(self.weight.dtype))

    @torch.no_grad()
    def take(self, vectors: Tensor) -> None:
        """Initialize with pre-trained word vectors.

        Args:
            vectors: ``(V, embedding_dim)``. Words with a row of zeros keep their random vectors, moved to the mean and
                variance of the others.

        Raises:
            ValueError: if ``vectors`` has another shape, or holds only zeros.
        """
        if vectors.shape != self.weight.shape:
            raise ValueError(
                f"vectors must have the shape {tuple(self.weight.shape)}, words by embedding_dim, got "
                f"{tuple(vectors.shape)}."
            )
        known = vectors.ne(0).any(1)
        if not known.any():
            raise ValueError("vectors must have a row other than zeros, got only zeros.")
        deviation, mean = torch.std_mean(vectors[known], 0, correction=0)
        self.weight.mul_(deviation).add_(mean)
        self.weight[known] = vectors[known].to(self.weight)

    def table(self) -> Tensor:
        """Return the normalised vectors of all words, ``(V, embedding_dim)``, in the weight's precision."""
        # Autocast would round the frequencies of rare words to 0.
        with torch.autocast(self.weight.device.type, enabled=False):
            centred = self.weight - self.frequencies @ self.weight
            variance = self.frequencies @ centred.square()
            return centred * (variance + _EPSILON).rsqrt()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Look up the normalised vectors, ``(..., embedding_dim)``, of word indices ``(...)``."""
        return F.embedding(input, self.table(), self.padding_idx)


class LockedDropout(nn.Dropout):
    """Dropout with one mask for all steps of a sequence.

    It is a site of the kind ``dropout``, see `lightning_advdrop.masking.find_sites`.

    Source: Gal & Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", 2016
    (arXiv 1512.05287).

    Args:
        p: the probability of dropping a feature, in [0, 1].
        time_dim: the dimension of the steps: 1 for ``(B, T, D)``, 0 for ``(T, B, D)``.

    Raises:
        ValueError: if ``p`` is not in [0, 1].

    Example:
        >>> dropped = LockedDropout(0.5)(torch.ones(2, 3, 4))
        >>> torch.equal(dropped[:, 0], dropped[:, 2])
        True
    """

    def __init__(self, p: float = 0.5, time_dim: int = 1) -> None:
        super().__init__(p)
        self.time_dim = time_dim

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Drop the same features of an example at every step of ``(B, T, D)``, or ``(T, B, D)``."""
        if not self.training or not self.p:
            return input
        shape = list(input.shape)
        shape[self.time_dim] = 1
        return input * F.dropout(input.new_ones(shape), self.p)

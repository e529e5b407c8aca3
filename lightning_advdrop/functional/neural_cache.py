"""The neural cache: a language model's probabilities mixed with those of its recent past."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Steps whose scores are held at once: a few megabytes for a window of thousands.
_CHUNK = 128


def neural_cache(
    log_probability: Tensor,
    outputs: Tensor,
    targets: Tensor,
    *,
    thetas: Sequence[float],
    interpolations: Sequence[float],
    window: int,
    past: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Compute the log-probabilities of a text's words under a language model with a neural cache.

    The cache holds the last ``window`` pairs of the network's output and the word that followed it. The word ``w[t]``
    after the output ``h[t]`` has the probability

    ``(1 - lambda) p_model(w[t]) + lambda sum_i 1[w[i] = w[t]] exp(theta h[t] h[i]) / sum_i exp(theta h[t] h[i])``

    where ``i`` runs from ``t - window`` to ``t - 1``. While the cache is empty, at the beginning of a text, it is the
    model's alone.

    Source: Grave, Joulin & Usunier, "Improving Neural Language Models with a Continuous Cache", ICLR 2017
    (arXiv 1612.04426), section 3, linear interpolation.

    Args:
        log_probability: the model's log-probability of each word, in nats, ``(T, B)``.
        outputs: the network's output before the softmax layer, ``(T, B, D)``.
        targets: the word indices, int64, ``(T, B)``. Each of the ``B`` columns is a text with a cache of its own.
        thetas: values of the flatness, each at least 0; 0 weighs all pairs of the cache alike.
        interpolations: values of the cache's share ``lambda``, each in [0, 1).
        window: the most pairs in the cache, at least 1.
        past: outputs ``(P, B, D)`` and targets ``(P, B)`` of the steps before, of which the last ``window`` suffice;
            None at the beginning of a text.

    Returns:
        The log-probabilities for each theta and lambda, ``(len(thetas), len(interpolations), T, B)``.

    Raises:
        ValueError: if a theta is negative, a share is not in [0, 1), ``window`` is below 1, or shapes don't match.

    Example:
        >>> text, h = torch.tensor([[3], [4], [3]]), torch.ones(3, 1, 2)
        >>> half = torch.full((3, 1), 0.5).log()
        >>> neural_cache(half, h, text, thetas=[1.0], interpolations=[0.2], window=5).exp().flatten()
        tensor([0.5000, 0.4000, 0.5000])
    """
    check_neural_cache(thetas, interpolations, window)
    _check_shapes(log_probability, outputs, targets)
    first = 0
    if past is not None:
        first = len(past[0])
        outputs, targets = torch.cat([past[0], outputs]), torch.cat([past[1], targets])
    parts = []
    for start in range(first, len(outputs), _CHUNK):
        stop = min(start + _CHUNK, len(outputs))
        seen = slice(max(0, start - window), stop)
        shares, empty = _shares(outputs[seen], targets[seen], stop - start, thetas, window)  # (N, L, B), (L, 1)
        parts.append(_mixed(log_probability[start - first : stop - first], shares, empty, interpolations))
    return torch.cat(parts, -2)


def _shares(
    outputs: Tensor, targets: Tensor, steps: int, thetas: Sequence[float], window: int
) -> tuple[Tensor, Tensor]:
    """Return the cache's probability of the last ``steps`` words, ``(N, steps, B)``, and where it is empty."""
    count = len(outputs)
    place = torch.arange(count, device=outputs.device)
    distance = place[count - steps :, None] - place  # (L, K)
    outside = (distance < 1) | (distance > window)
    h = outputs.float().transpose(0, 1)  # (B, K, D)
    scores = h[:, count - steps :] @ h.transpose(1, 2)  # (B, L, K)
    scores = scores - scores.masked_fill(outside, -math.inf).amax(-1, keepdim=True).nan_to_num(neginf=0.0)
    words = targets.T  # (B, K)
    same = (words[:, count - steps :, None] == words[:, None, :]).to(scores.dtype)
    shares = []
    for theta in thetas:
        weights = (scores * theta).masked_fill_(outside, -math.inf).exp_()
        total = weights.sum(-1).clamp_min(torch.finfo(weights.dtype).tiny)
        shares.append((weights.mul_(same).sum(-1) / total).T)
    return torch.stack(shares), outside.all(-1, keepdim=True)


def _mixed(log_probability: Tensor, shares: Tensor, empty: Tensor, interpolations: Sequence[float]) -> Tensor:
    cache = shares.log()[:, None]  # (N, 1, L, B)
    weight = torch.tensor(interpolations, dtype=cache.dtype, device=cache.device)[:, None, None]
    mixed = torch.logaddexp(log_probability + torch.log1p(-weight), cache + weight.log())
    return torch.where(empty, log_probability.to(mixed.dtype), mixed)


def check_neural_cache(thetas: Sequence[float], interpolations: Sequence[float], window: int) -> None:
    """Check the arguments of `neural_cache`.

    Raises:
        ValueError: if a theta is negative or infinite, a share is not in [0, 1), or ``window`` is below 1.

    Example:
        >>> check_neural_cache([0.0, 1.0], [0.1], window=100)
    """
    if not thetas or not all(0 <= theta < math.inf for theta in thetas):
        raise ValueError(f"thetas must be one or more numbers of at least 0, got {list(thetas)}.")
    if not interpolations or not all(0 <= share < 1 for share in interpolations):
        raise ValueError(f"interpolations must be one or more numbers in [0, 1), got {list(interpolations)}.")
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}.")


def _check_shapes(log_probability: Tensor, outputs: Tensor, targets: Tensor) -> None:
    shape = tuple(targets.shape)
    if len(shape) != 2 or tuple(log_probability.shape) != shape or outputs.dim() != 3 or outputs.shape[:2] != shape:
        raise ValueError(
            "log_probability and targets must have the shape (steps, batch) and outputs (steps, batch, units), got "
            f"{tuple(log_probability.shape)}, {shape} and {tuple(outputs.shape)}."
        )

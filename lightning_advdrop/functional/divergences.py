"""Divergences between two predictions of a network.

Each returns a scalar: the mean over examples (and time steps), weighted by ``sample_weight``. They compute in float32,
or float64 where they get that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop._deprecation import renamed_argument
from lightning_advdrop._suggestions import did_you_mean
from lightning_advdrop.functional.chunks import by_chunks
from lightning_advdrop.functional.labels import IGNORED_LABEL, cross_entropy_to_label
from lightning_advdrop.functional.means import as_float, weighted_mean

Direction = Literal["base_adv", "adv_base"]
DivergenceName = Literal["kl", "bernoulli_kl", "mse", "mse_logits", "mse_probs", "ce", "bernoulli_ce"]
Divergence = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def _pair(first: Tensor, second: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape:
        raise ValueError(
            f"Both outputs must have the same shape, got {tuple(first.shape)} and {tuple(second.shape)}; "
            "the two passes must predict the same examples."
        )
    if first.dim() < least:
        raise ValueError("Both outputs must have a last dimension, that of the classes or of one logit, got scalars.")
    return as_float(first), as_float(second)


@renamed_argument("weight", "sample_weight")
def kl_divergence(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute ``KL(p || q)`` of two tensors of logits, in nats, mean over examples.

    The distributions are categorical over the last dimension; a single logit there is that of a Bernoulli distribution.

    Args:
        p_logits: ``(..., classes)`` or ``(..., 1)``.
        q_logits: the same shape.
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).item()
        0.0
    """
    p, q = _pair(p_logits, q_logits)
    if p.shape[-1] == 1:  # a Bernoulli distribution is the categorical one of the logits (z, 0)
        p, q = (F.pad(logits, (0, 1)) for logits in (p, q))
    return weighted_mean(by_chunks(_kl_of_rows, p, q), sample_weight)


def _kl_of_rows(p: Tensor, q: Tensor) -> Tensor:
    log_p = p.log_softmax(-1)
    # A class that p excludes with a logit of minus infinity adds nothing, whatever q says of it.
    log_ratio = (log_p - q.log_softmax(-1)).masked_fill_(log_p.isneginf(), 0)
    return (log_p.exp() * log_ratio).sum(-1)


@renamed_argument("weight", "sample_weight")
def bernoulli_kl(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute ``KL(p || q)`` where each logit is that of an independent Bernoulli distribution, as with several labels.

    The sum over labels, in nats, mean over examples.

    Args:
        p_logits: ``(..., labels)``.
        q_logits: the same shape.
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> p, q = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 2.0]])
        >>> bernoulli_kl(p, q).item()
        0.0
    """
    p, q = _pair(p_logits, q_logits)
    if p.shape[-1] == 1:  # the same, by the same steps
        return kl_divergence(p, q, sample_weight)
    return weighted_mean(by_chunks(_bernoulli_kl_of_rows, p, q), sample_weight)


def _bernoulli_kl_of_rows(p: Tensor, q: Tensor) -> Tensor:
    # An outcome that p excludes by an infinite logit adds nothing, whatever q says of it.
    log_ratio_of_one = torch.where(p.isneginf(), 0, F.logsigmoid(p) - F.logsigmoid(q))
    log_ratio_of_zero = torch.where(p.isposinf(), 0, F.logsigmoid(-p) - F.logsigmoid(-q))
    return (p.sigmoid() * log_ratio_of_one + (-p).sigmoid() * log_ratio_of_zero).sum(-1)


@renamed_argument("weight", "sample_weight")
def mse(p: Tensor, q: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute the mean squared difference of two predictions of any shape, for regression.

    Args:
        p: predictions, ``(B)``, ``(B, 1)`` or with more dimensions.
        q: the same shape.
        sample_weight: weights of the leading dimensions, ``(B)``, or ``(B, T)`` for predictions ``(B, T, ...)``. The
            other dimensions are averaged first.

    Raises:
        ValueError: if the shapes differ, or ``sample_weight`` does not broadcast to the leading dimensions.

    Example:
        >>> mse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])).item()
        2.0
        >>> mse(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([1, 0])).item()
        1.0
    """
    p, q = _pair(p, q, least=0)
    squares = (p - q).square()
    if sample_weight is not None and sample_weight.dim() < squares.dim():
        squares = squares.flatten(sample_weight.dim()).mean(-1)
    return weighted_mean(squares, sample_weight)


@renamed_argument("weight", "sample_weight")
def mse_logits(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute the mean squared difference of two outputs, the divergence of Park et al. (2019) for language models.

    Equal logits of minus infinity, which exclude a class in both outputs, differ by 0.

    Args:
        p_logits: ``(..., features)``.
        q_logits: the same shape.
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> mse_logits(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])).item()
        5.0
    """
    p, q = _pair(p_logits, q_logits, least=0)
    if sample_weight is None:
        # One pass over the many logits of a language model, where the steps below take more.
        found = F.mse_loss(p, q)
        if found.isfinite():
            return found
    return weighted_mean(torch.where(p == q, 0, p - q).square().mean(-1), sample_weight)


@renamed_argument("weight", "sample_weight")
def mse_probs(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute the mean squared difference of two outputs' probabilities (softmax, or sigmoid for a single logit).

    The published experiments call it "QE".

    Args:
        p_logits: ``(..., classes)`` or ``(..., 1)``.
        q_logits: the same shape.
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> mse_probs(torch.zeros(1, 2), torch.zeros(1, 2)).item()
        0.0
    """
    return weighted_mean(by_chunks(_mse_of_probabilities, *_pair(p_logits, q_logits)), sample_weight)


def _mse_of_probabilities(p: Tensor, q: Tensor) -> Tensor:
    p, q = (z.sigmoid() if z.shape[-1] == 1 else z.softmax(-1) for z in (p, q))
    return (p - q).square().mean(-1)


_OF_TWO_OUTPUTS: dict[str, Divergence] = {
    "kl": kl_divergence,
    "bernoulli_kl": bernoulli_kl,
    "mse": mse,
    "mse_logits": mse_logits,
    "mse_probs": mse_probs,
}


@renamed_argument("weight", "sample_weight")
def divergence(
    name: DivergenceName,
    direction: Direction,
    base: Tensor,
    adversarial: Tensor,
    *,
    target: Tensor | None = None,
    sample_weight: Tensor | None = None,
    ignore_index: int = IGNORED_LABEL,
) -> Tensor:
    """Compute the divergence of one name between a base and an adversarial output.

    Args:
        name: ``kl``, ``bernoulli_kl``, ``mse``, ``mse_logits``, ``mse_probs``, ``ce`` or ``bernoulli_ce``.
        direction: ``base_adv`` for ``D(base, adversarial)``, ``adv_base`` for ``D(adversarial, base)``. Only ``kl`` and
            ``bernoulli_kl`` depend on it.
        base: ``(..., classes)``, any shape for ``mse``; unused by ``ce`` and ``bernoulli_ce``.
        adversarial: the same shape.
        target: the labels as `cross_entropy_to_label` takes them, for ``ce`` (class indices or class probabilities) and
            ``bernoulli_ce`` (several labels at once, or one logit).
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike.
        ignore_index: the class index of examples without a label, for ``ce``.

    Raises:
        ValueError: if the name or the direction is unknown, shapes differ, or there is no target for labels.

    Example:
        >>> divergence("mse_logits", "base_adv", torch.zeros(1, 2), torch.ones(1, 2)).item()
        1.0
    """
    check_divergence(name, direction)
    if name in {"ce", "bernoulli_ce"}:
        if target is None:
            raise ValueError(f"target must be given for the divergence {name!r}, got None.")
        several = name == "bernoulli_ce"
        return cross_entropy_to_label(adversarial, target, sample_weight, several=several, ignore_index=ignore_index)
    first, second = (base, adversarial) if direction == "base_adv" else (adversarial, base)
    return _OF_TWO_OUTPUTS[name](first, second, sample_weight)


def check_divergence(name: str, direction: str) -> None:
    """Check the name and the direction of a `divergence`.

    Raises:
        ValueError: if one is unknown.

    Example:
        >>> check_divergence("kl", "base_adv")
    """
    if name not in get_args(DivergenceName):
        near = did_you_mean(name, get_args(DivergenceName))
        raise ValueError(f"divergence must be one of {', '.join(get_args(DivergenceName))}, got {name!r}{near}")
    if direction not in get_args(Direction):
        near = did_you_mean(direction, get_args(Direction))
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}{near}")

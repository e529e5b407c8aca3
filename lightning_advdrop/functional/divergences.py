"""Divergences between two predictions of a network.

Every function takes two outputs of the same shape and an optional ``sample_weight`` over their leading dimensions (1
for a real example or time step, 0 for padding) and returns the weighted mean, a scalar. They compute in float32 or
more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop._deprecation import renamed_argument

IGNORED_LABEL = -100
"""The class of an example that has none: torch's own ``ignore_index``."""

Direction = Literal["base_adv", "adv_base"]
DivergenceName = Literal["kl", "bernoulli_kl", "mse", "mse_logits", "mse_probs", "ce"]
Divergence = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def _float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in {torch.float32, torch.float64} else tensor.float()


def _check_same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"Both outputs must have the same shape, got {tuple(first.shape)} and {tuple(second.shape)}; "
            "the two passes must predict the same examples."
        )


def _broadcast(sample_weight: Tensor, shape: torch.Size) -> Tensor:
    try:
        return torch.broadcast_to(sample_weight, shape)
    except RuntimeError:
        raise ValueError(
            f"sample_weight must broadcast to the examples' shape {tuple(shape)}, got {tuple(sample_weight.shape)}."
        ) from None


@renamed_argument("weight", "sample_weight")
def weighted_mean(values: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """The mean of ``values``, weighted; 0 if all weights are 0.

    Args:
        values: one number for each example (and time step).
        sample_weight: the same shape, or one that broadcasts to it; None weighs all alike.

    Raises:
        ValueError: if ``sample_weight`` does not broadcast to the shape of ``values``.

    Example:
        >>> weighted_mean(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([1.0, 1.0, 0.0])).item()
        2.0
    """
    if sample_weight is None:
        return values.mean()
    sample_weight = _broadcast(sample_weight, values.shape).to(values.dtype)
    weighted = torch.where(sample_weight == 0, 0, values * sample_weight)  # padding may hold anything, even NaN
    return weighted.sum() / sample_weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


@renamed_argument("weight", "sample_weight")
def kl_divergence(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """``KL(p || q)`` of the distributions that two tensors of logits stand for; mean over examples.

    Categorical over the last dimension, and Bernoulli where that has a single logit.

    Args:
        p_logits: ``(..., classes)`` or ``(..., 1)``.
        q_logits: the same shape.
        sample_weight: ``(...)``, see the module.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).item()
        0.0
    """
    _check_same_shape(p_logits, q_logits)
    p, q = _float(p_logits), _float(q_logits)
    if p.shape[-1] == 1:  # a Bernoulli distribution is the categorical one of the logits (z, 0)
        p, q = (F.pad(logits, (0, 1)) for logits in (p, q))
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    # A class that p excludes with a logit of minus infinity adds nothing, whatever q says of it.
    log_ratio = torch.where(log_p.isneginf(), 0, log_p - log_q)
    return weighted_mean((log_p.exp() * log_ratio).sum(-1), sample_weight)


@renamed_argument("weight", "sample_weight")
def bernoulli_kl(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """``KL(p || q)`` where each logit stands for a Bernoulli distribution of its own, as with several labels at once.

    Summed over the last dimension, as the KL of independent distributions is; mean over examples.

    Args:
        p_logits: ``(..., labels)``.
        q_logits: the same shape.
        sample_weight: ``(...)``, see the module.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> p, q = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 2.0]])
        >>> bernoulli_kl(p, q).item()
        0.0
    """
    _check_same_shape(p_logits, q_logits)
    p, q = _float(p_logits), _float(q_logits)
    log_ratio_of_one = F.logsigmoid(p) - F.logsigmoid(q)
    log_ratio_of_zero = F.logsigmoid(-p) - F.logsigmoid(-q)
    each = p.sigmoid() * log_ratio_of_one + (-p).sigmoid() * log_ratio_of_zero
    return weighted_mean(each.sum(-1), sample_weight)


@renamed_argument("weight", "sample_weight")
def mse(p: Tensor, q: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """The mean squared difference of two predictions of any shape, for regression.

    Args:
        p: predictions, ``(B)``, ``(B, 1)`` or with more dimensions.
        q: the same shape.
        sample_weight: weights of the leading dimensions, ``(B)`` or ``(B, T)`` for predictions ``(B, T, ...)``; the
            mean is taken over the dimensions behind these.

    Raises:
        ValueError: if the shapes differ, or ``sample_weight`` does not broadcast to the leading dimensions.

    Example:
        >>> mse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])).item()
        2.0
        >>> mse(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([1, 0])).item()
        1.0
    """
    _check_same_shape(p, q)
    squares = (_float(p) - _float(q)).square()
    if sample_weight is not None and sample_weight.dim() < squares.dim():
        squares = squares.flatten(sample_weight.dim()).mean(-1)
    return weighted_mean(squares, sample_weight)


@renamed_argument("weight", "sample_weight")
def mse_logits(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """The mean squared difference of two outputs; the divergence of the language models of Park et al. (2019).

    Args:
        p_logits: ``(..., features)``.
        q_logits: the same shape.
        sample_weight: ``(...)``, see the module.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> mse_logits(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])).item()
        5.0
    """
    _check_same_shape(p_logits, q_logits)
    p, q = _float(p_logits), _float(q_logits)
    # One pass over the logits, of which language models have many, where the steps below take four.
    if sample_weight is None:
        return F.mse_loss(p, q)
    return weighted_mean((p - q).square().mean(-1), sample_weight)


@renamed_argument("weight", "sample_weight")
def mse_probs(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """The mean squared difference of two outputs' probabilities (softmax, or sigmoid for a single logit).

    Called "QE" in the published experiments.

    Args:
        p_logits: ``(..., classes)`` or ``(..., 1)``.
        q_logits: the same shape.
        sample_weight: ``(...)``, see the module.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> mse_probs(torch.zeros(1, 2), torch.zeros(1, 2)).item()
        0.0
    """
    _check_same_shape(p_logits, q_logits)
    single = p_logits.shape[-1] == 1
    p, q = (_float(z).sigmoid() if single else _float(z).softmax(-1) for z in (p_logits, q_logits))
    return weighted_mean((p - q).square().mean(-1), sample_weight)


@renamed_argument("weight", "sample_weight")
def cross_entropy_to_label(logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of one output to the label: the objective of supervised adversarial dropout.

    Args:
        logits: ``(..., classes)``, ``(..., 1)`` with a Bernoulli target, or ``(..., labels)`` for several labels at
            once.
        target: ``(...)``, class indices, or probabilities in [0, 1] for a single logit. For several labels a
            floating-point tensor in the shape of ``logits``, probabilities in [0, 1]; then the binary cross-entropies
            are summed over the last dimension. Examples without a label are left out of the mean; as a class index that
            is `IGNORED_LABEL`.
        sample_weight: ``(...)``, see the module.

    Raises:
        ValueError: if ``target`` has neither the leading shape of ``logits`` nor, as floating-point numbers, their
            whole shape.

    Example:
        >>> cross_entropy_to_label(torch.tensor([[0.0, 100.0], [0.0, 0.0]]), torch.tensor([1, IGNORED_LABEL])).item()
        0.0
    """
    z = _float(logits)
    if target.shape == logits.shape and target.is_floating_point():
        losses = F.binary_cross_entropy_with_logits(z, target.to(z.dtype), reduction="none").sum(-1)
        return weighted_mean(losses, sample_weight)
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f"target must have the shape {tuple(logits.shape[:-1])}, or be floating-point numbers of the shape "
            f"{tuple(logits.shape)} for several labels, got {target.dtype} of the shape {tuple(target.shape)}."
        )
    if not target.is_floating_point():
        sample_weight = _without_ignored(target, sample_weight)
    if z.shape[-1] == 1:
        losses = F.binary_cross_entropy_with_logits(z.squeeze(-1), target.to(z.dtype), reduction="none")
    else:
        flat = z.reshape(-1, z.shape[-1]), target.reshape(-1)
        losses = F.cross_entropy(*flat, reduction="none", ignore_index=IGNORED_LABEL).view(target.shape)
    return weighted_mean(losses, sample_weight)


def _without_ignored(target: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Weights that are 0 where there is no label."""
    labelled = target != IGNORED_LABEL
    return labelled if sample_weight is None else torch.where(labelled, _broadcast(sample_weight, target.shape), 0)


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
) -> Tensor:
    """The divergence ``name`` between a base and an adversarial output.

    Args:
        name: ``kl``, ``bernoulli_kl``, ``mse``, ``mse_logits``, ``mse_probs`` or ``ce``.
        direction: ``base_adv`` for ``D(base, adversarial)``, ``adv_base`` for ``D(adversarial, base)``. Only ``kl`` and
            ``bernoulli_kl`` depend on it.
        base: ``(..., classes)``, of any shape for ``mse``; ``ce`` does not look at it.
        adversarial: the same shape.
        target: the labels, for ``ce`` only, see `cross_entropy_to_label`.
        sample_weight: ``(...)``, see the module.

    Raises:
        ValueError: if the name or the direction is unknown, shapes differ, or ``ce`` gets no target.

    Example:
        >>> divergence("mse_logits", "base_adv", torch.zeros(1, 2), torch.ones(1, 2)).item()
        1.0
    """
    check_divergence(name, direction)
    if name == "ce":
        if target is None:
            raise ValueError("target must be given for the divergence 'ce', got None.")
        return cross_entropy_to_label(adversarial, target, sample_weight)
    first, second = (base, adversarial) if direction == "base_adv" else (adversarial, base)
    return _OF_TWO_OUTPUTS[name](first, second, sample_weight)


def check_divergence(name: str, direction: str) -> None:
    """Raises the `ValueError` of `divergence` for an unknown name or direction.

    Example:
        >>> check_divergence("kl", "base_adv")
    """
    if name not in get_args(DivergenceName):
        raise ValueError(f"divergence must be one of {', '.join(get_args(DivergenceName))}, got {name!r}.")
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}.")

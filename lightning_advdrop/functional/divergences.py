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

IGNORED_LABEL = -100
"""The class index of an example without a label, torch's own ``ignore_index``."""

Direction = Literal["base_adv", "adv_base"]
DivergenceName = Literal["kl", "bernoulli_kl", "mse", "mse_logits", "mse_probs", "ce"]
Divergence = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def _float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in {torch.float32, torch.float64} else tensor.float()


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape:
        raise ValueError(
            f"Both outputs must have the same shape, got {tuple(first.shape)} and {tuple(second.shape)}; "
            "the two passes must predict the same examples."
        )
    return _float(first), _float(second)


def _broadcast(sample_weight: Tensor, shape: torch.Size) -> Tensor:
    try:
        return torch.broadcast_to(sample_weight, shape)
    except RuntimeError:
        raise ValueError(
            f"sample_weight must broadcast to the examples' shape {tuple(shape)}, got {tuple(sample_weight.shape)}."
        ) from None


@renamed_argument("weight", "sample_weight")
def weighted_mean(values: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute the weighted mean of ``values``; 0 if all weights are 0.

    Args:
        values: one number for each example (and time step), any shape.
        sample_weight: weights that broadcast to the shape of ``values``; None weighs all alike. A value of weight 0 is
            ignored, even NaN.

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
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    # A class that p excludes with a logit of minus infinity adds nothing, whatever q says of it.
    log_ratio = torch.where(log_p.isneginf(), 0, log_p - log_q)
    return weighted_mean((log_p.exp() * log_ratio).sum(-1), sample_weight)


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
    log_ratio_of_one = F.logsigmoid(p) - F.logsigmoid(q)
    log_ratio_of_zero = F.logsigmoid(-p) - F.logsigmoid(-q)
    each = p.sigmoid() * log_ratio_of_one + (-p).sigmoid() * log_ratio_of_zero
    return weighted_mean(each.sum(-1), sample_weight)


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
    p, q = _pair(p, q)
    squares = (p - q).square()
    if sample_weight is not None and sample_weight.dim() < squares.dim():
        squares = squares.flatten(sample_weight.dim()).mean(-1)
    return weighted_mean(squares, sample_weight)


@renamed_argument("weight", "sample_weight")
def mse_logits(p_logits: Tensor, q_logits: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute the mean squared difference of two outputs, the divergence of Park et al. (2019) for language models.

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
    p, q = _pair(p_logits, q_logits)
    # One pass over the many logits of a language model, where the steps below take four.
    if sample_weight is None:
        return F.mse_loss(p, q)
    return weighted_mean((p - q).square().mean(-1), sample_weight)


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
    p, q = (z.sigmoid() if z.shape[-1] == 1 else z.softmax(-1) for z in _pair(p_logits, q_logits))
    return weighted_mean((p - q).square().mean(-1), sample_weight)


@renamed_argument("weight", "sample_weight")
def cross_entropy_to_label(logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """Compute the cross-entropy of an output to the label, the objective of supervised adversarial dropout.

    Examples whose class is `IGNORED_LABEL` are left out of the mean.

    Args:
        logits: ``(..., classes)``, ``(..., 1)`` for a binary target, or ``(..., labels)`` for several labels at once.
        target: ``(...)``: class indices, or probabilities in [0, 1] for a single logit. For several labels, a
            floating-point tensor ``(..., labels)`` of probabilities in [0, 1], whose binary cross-entropies are summed.
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike.

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
    """Return weights that are 0 where there is no label."""
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
    """Compute the divergence of one name between a base and an adversarial output.

    Args:
        name: ``kl``, ``bernoulli_kl``, ``mse``, ``mse_logits``, ``mse_probs`` or ``ce``.
        direction: ``base_adv`` for ``D(base, adversarial)``, ``adv_base`` for ``D(adversarial, base)``. Only ``kl`` and
            ``bernoulli_kl`` depend on it.
        base: ``(..., classes)``, any shape for ``mse``; unused by ``ce``.
        adversarial: the same shape.
        target: the labels as `cross_entropy_to_label` takes them, for ``ce`` only.
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike.

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
    """Check the name and the direction of a `divergence`.

    Raises:
        ValueError: if one is unknown.

    Example:
        >>> check_divergence("kl", "base_adv")
    """
    if name not in get_args(DivergenceName):
        raise ValueError(f"divergence must be one of {', '.join(get_args(DivergenceName))}, got {name!r}.")
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}.")

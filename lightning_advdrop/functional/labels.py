"""The cross-entropy of a prediction to labels: a class, class probabilities, or several labels at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop._deprecation import renamed_argument
from lightning_advdrop.functional.means import as_float, broadcast_weight, weighted_mean

IGNORED_LABEL = -100
"""The class index of an example without a label, torch's own ``ignore_index``."""

# How far the probabilities of an example's classes may sum from 1.
_ROUNDING = 1e-2


@renamed_argument("weight", "sample_weight")
def cross_entropy_to_label(
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None = None,
    *,
    several: bool = True,
    ignore_index: int = IGNORED_LABEL,
) -> Tensor:
    """Compute the cross-entropy of an output to the label, the objective of supervised adversarial dropout.

    Examples whose class is ``ignore_index`` are left out of the mean.

    Args:
        logits: ``(..., classes)``, ``(..., 1)`` for a binary target, or ``(..., labels)`` for several labels at once.
        target: ``(...)``: class indices of any integer type, or probabilities in [0, 1] for a single logit. Or a
            floating-point tensor of the shape of ``logits``, of probabilities in [0, 1].
        sample_weight: weights that broadcast to ``(...)``, 0 for padding; None weighs all examples alike. Where the
            weight is 0 the label may be any number.
        several: what floating-point labels of the shape of ``logits`` are: True for those of several labels, whose
            binary cross-entropies are summed; False for the probabilities of exclusive classes, which sum to 1 (soft
            labels, mixup, distillation).
        ignore_index: the class index of examples without a label.

    Raises:
        ValueError: if ``target`` has neither the leading shape of ``logits`` nor, as floating-point numbers, their
            whole shape, or holds anything that is no label.

    Example:
        >>> cross_entropy_to_label(torch.tensor([[0.0, 100.0], [0.0, 0.0]]), torch.tensor([1, IGNORED_LABEL])).item()
        0.0
        >>> logits, target = torch.zeros(1, 4), torch.tensor([[0.5, 0.5, 0.0, 0.0]])
        >>> torch.allclose(cross_entropy_to_label(logits, target, several=False).exp(), torch.tensor(4.0))
        True
    """
    z = as_float(logits)
    if target.shape == logits.shape and target.is_floating_point():
        return weighted_mean(_of_probabilities(z, target.to(z.dtype), sample_weight, several), sample_weight)
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f"target must have the shape {tuple(logits.shape[:-1])}, or be floating-point numbers of the shape "
            f"{tuple(logits.shape)} for several labels, got {target.dtype} of the shape {tuple(target.shape)}."
        )
    if target.is_floating_point():
        if z.shape[-1] > 1:
            raise ValueError(
                f"target must hold class indices for {z.shape[-1]} classes, got {target.dtype}; use target.long()."
            )
        _check_probabilities(target, sample_weight)
        losses = F.binary_cross_entropy_with_logits(z.squeeze(-1), target.to(z.dtype), reduction="none")
        return weighted_mean(losses, sample_weight)
    target = target.long()
    labelled = target != ignore_index
    counted = labelled if sample_weight is None else torch.where(labelled, _spread(sample_weight, target), 0)
    return weighted_mean(_of_classes(z, target, counted != 0, ignore_index), counted)


def _of_classes(z: Tensor, target: Tensor, counted: Tensor, ignore_index: int) -> Tensor:
    """Compute the cross-entropy of each class index; those that don't count may be any number."""
    classes = max(2, z.shape[-1])
    wrong = counted & ((target < 0) | (target >= classes))
    if wrong.any():
        raise ValueError(
            f"target must hold class indices from 0 to {classes - 1} for predictions of the shape {tuple(z.shape)}, or "
            f"{ignore_index} where there is no label, got {target[wrong][0].item()}; name another index without a "
            "label by ignore_index=."
        )
    if z.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(z.squeeze(-1), target.to(z.dtype), reduction="none")
    index = torch.where(counted, target, IGNORED_LABEL).reshape(-1)
    losses = F.cross_entropy(z.reshape(-1, z.shape[-1]), index, reduction="none", ignore_index=IGNORED_LABEL)
    return losses.view(target.shape)


def _of_probabilities(z: Tensor, target: Tensor, sample_weight: Tensor | None, several: bool) -> Tensor:
    """Compute the cross-entropy of each example to probabilities of labels, or of exclusive classes."""
    _check_probabilities(target, None if sample_weight is None else _spread(sample_weight, target[..., 0])[..., None])
    if several or z.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(z, target, reduction="none").sum(-1)
    totals = target.sum(-1)
    off = (totals - 1).abs() > _ROUNDING
    if sample_weight is not None:
        off &= _spread(sample_weight, totals) != 0
    if off.any():
        raise ValueError(
            f"target must hold class probabilities that sum to 1 for each example, got a sum of "
            f"{totals[off][0].item():.4g}; several labels at once are compared by divergence='bernoulli_ce' or "
            "'bernoulli_kl' (several=True)."
        )
    # A class that the target excludes adds nothing, even where a logit of minus infinity excludes it, too.
    return -torch.where(target == 0, 0, target * z.log_softmax(-1)).sum(-1)


def _check_probabilities(target: Tensor, sample_weight: Tensor | None) -> None:
    wrong = ~((target >= 0) & (target <= 1))
    if sample_weight is not None:
        wrong &= torch.broadcast_to(sample_weight, target.shape) != 0
    if wrong.any():
        raise ValueError(
            f"target must hold probabilities in [0, 1], got {target[wrong][0].item():.4g}; numbers are compared by "
            "divergence='mse'."
        )


def _spread(sample_weight: Tensor, like: Tensor) -> Tensor:
    return broadcast_weight(sample_weight, like.shape)

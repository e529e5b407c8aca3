"""What the searches take from the base pass: gradients of its prediction or its loss with respect to the masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.masking import MaskSite
from lightning_advdrop.regularizers.comparison import Comparison, DivergenceChoice
from lightning_advdrop.regularizers.passes import Passes

BinaryMasks = dict[MaskSite, Tensor]
#: Scales a binary mask of a site as it is multiplied.
Scale = Callable[[MaskSite, Tensor], Tensor]


def base_gradients(value: Tensor, masks: BinaryMasks, passes: Passes, scale: Scale = MaskSite.rescale) -> BinaryMasks:
    """Compute the gradient of a value of the base pass with respect to the binary masks under which it ran.

    Args:
        value: a scalar, computed from the base pass.
        masks: the binary masks.
        passes: the base pass; the scaled masks acted in it, with a gradient.
        scale: how they were scaled.

    Raises:
        ValueError: if no mask acted at one of the sites.
    """
    applied: list[Any] = passes.applied(masks)
    gradients = torch.autograd.grad(value, applied, retain_graph=True, materialize_grads=True)
    return of_binary(masks, gradients, passes, scale)


def of_binary(masks: BinaryMasks, gradients: Sequence[Tensor], passes: Passes, scale: Scale) -> BinaryMasks:
    """Turn gradients of the masks that acted into those of the binary ones.

    Args:
        masks: the binary masks.
        gradients: the gradient of each mask as it acted.
        passes: the base pass.
        scale: how the masks were scaled.
    """
    found = {}
    for (site, mask), gradient in zip(masks.items(), gradients, strict=True):
        binary = mask.detach().requires_grad_()
        (found[site],) = torch.autograd.grad(scale(passes.observed[site].site, binary), binary, gradient)
    return found


# By the loss.


def loss_gradients(passes: Passes, masks: BinaryMasks, divergence: DivergenceChoice, scale: Scale) -> BinaryMasks:
    """Return the gradients of the supervised loss with respect to the binary masks.

    Args:
        passes: the base pass, which ran under the masks.
        masks: the binary masks.
        divergence: tells how the prediction is read where the loss is not known.
        scale: how the masks were scaled.

    Raises:
        ValueError: if no mask acted at one of the sites, or neither the loss nor the labels are known.
    """
    applied = passes.applied(masks)
    known = [passes.loss_gradients.get(id(value)) for value in applied]
    if all(gradient is not None for gradient in known):
        return of_binary(masks, [gradient for gradient in known if gradient is not None], passes, scale)
    return base_gradients(passes.base_loss(passes.compared(divergence)), masks, passes, scale)


def is_supervised(passes: Passes) -> bool:
    """Tell whether there is a supervised loss of the base pass with a graph, or labels to compute one."""
    return passes.target is not None if passes.loss is None else passes.loss.requires_grad


def may_be_unlabelled(passes: Passes, divergence: DivergenceChoice, dims: Sequence[int]) -> dict[int, bool]:
    """Tell by the head alone whether the loss may leave out an example whose prediction leans on something.

    Args:
        passes: the base pass.
        divergence: tells how the prediction is read.
        dims: the dimensions of the prediction that may hold the examples, 0 or 1.

    Returns:
        Whether it is so, if a dimension holds the examples.
    """
    comparison = passes.compared(divergence)
    base, loss = passes.base, passes.base_loss(comparison)
    (of_loss,) = torch.autograd.grad(loss, base, retain_graph=True, allow_unused=True)
    if of_loss is None:  # the loss was computed from another selection of the result
        return dict.fromkeys(dims, True)
    used = {dim: _not_zero(of_loss, dim) for dim in dims}
    if all(each.all() for each in used.values()):
        # As most often; over the many logits of a language model the rest takes as long as the loss.
        return dict.fromkeys(dims, False)
    (leant,) = torch.autograd.grad(leaning(passes, comparison), base, retain_graph=True)
    return {dim: bool((_not_zero(leant, dim) & ~each).any()) for dim, each in used.items()}


def _not_zero(gradient: Tensor, dim: int) -> Tensor:
    """Tell which entries of one of the first two dimensions have a gradient."""
    inner = gradient.flatten(dim + 1).any(-1) if gradient.dim() > dim + 1 else gradient != 0
    return inner.any(0) if dim else inner


def leaning_gradients(
    passes: Passes, masks: BinaryMasks, divergence: DivergenceChoice, scale: Scale = MaskSite.rescale
) -> BinaryMasks:
    """Compute the gradients of what the prediction leans on, see `leaning`, with respect to the binary masks.

    Args:
        passes: the base pass, which ran under the masks.
        masks: the binary masks.
        divergence: tells how the prediction is read.
        scale: how the masks were scaled.
    """
    return base_gradients(leaning(passes, passes.compared(divergence)), masks, passes, scale)


# The Fisher search.


def fisher_scores(
    passes: Passes, masks: BinaryMasks, divergence: DivergenceChoice, draws: int, scale: Scale = MaskSite.rescale
) -> BinaryMasks:
    """Compute gradients of log-probabilities of drawn labels with respect to the base pass's masks.

    At these masks a divergence is stationary, and its second-order term is half of ``d^T F d`` for a change ``d`` of
    the mask, with the Fisher information ``F`` of the prediction. The mean of the scores' outer products is an unbiased
    estimate of F. `fisher_flips` finds masks from them.

    Args:
        passes: the base pass.
        masks: the binary masks under which it ran.
        divergence: tells the distribution that the prediction describes: the mean of a normal one for ``mse`` and
            ``mse_logits``, independent Bernoulli logits for ``bernoulli_kl`` or a single logit, else a categorical
            distribution.
        draws: the number of labels drawn for each example.
        scale: how the masks were scaled when they acted.

    Returns:
        The scores, ``(draws, ...)`` of a mask's shape.

    Raises:
        ValueError: if the base pass did not run under the masks.
    """
    drawn = [base_gradients(_drawn_log_probability(passes, divergence), masks, passes, scale) for _ in range(draws)]
    return {site: torch.stack([scores[site] for scores in drawn]) for site in masks}


def _drawn_log_probability(passes: Passes, divergence: DivergenceChoice) -> Tensor:
    """Compute the log-probability of labels drawn from the base prediction, summed over all but padding.

    Each is multiplied by the square root of its weight, so that squares of gradients are weighted by the weight.
    """
    comparison = passes.compared(divergence)
    logits = _logits(passes, comparison)
    on_cpu = logits.detach().cpu()
    if (on_cpu.isnan() | on_cpu.isposinf()).any():
        raise ValueError("The prediction must be finite to draw labels from it, got NaN or infinity.")
    if comparison.divergence in {"mse", "mse_logits"}:
        terms = logits * torch.randn(on_cpu.shape, generator=passes.generator, dtype=on_cpu.dtype).to(logits.device)
    elif comparison.kind == "labels" or logits.shape[-1] == 1:
        label = torch.bernoulli(on_cpu.sigmoid(), generator=passes.generator).to(logits.device)
        terms = -F.binary_cross_entropy_with_logits(logits, label, reduction="none")
    else:
        flat = on_cpu.softmax(-1).reshape(-1, on_cpu.shape[-1])
        label = torch.multinomial(flat, 1, generator=passes.generator).view(*on_cpu.shape[:-1], 1).to(logits.device)
        terms = logits.log_softmax(-1).gather(-1, label)
    return _weighted_sum(terms, passes, comparison, squared=True)


def _logits(passes: Passes, comparison: Comparison) -> Tensor:
    logits = comparison.read(passes.base)
    return logits if logits.dtype is torch.float64 else logits.float()


def _weighted_sum(terms: Tensor, passes: Passes, comparison: Comparison, *, squared: bool = False) -> Tensor:
    weight = passes.weights(comparison)
    if weight is not None:
        weight = weight.to(terms)
        weight = weight.view(*weight.shape, *[1] * (terms.dim() - weight.dim()))
        terms = torch.where(weight == 0, 0, terms * (weight.sqrt() if squared else weight))
    return terms.sum()


def leaning(passes: Passes, comparison: Comparison) -> Tensor:
    """Compute what the base prediction leans on, summed over all but padding: what ``search="top"`` lowers.

    That is the log-probability of the most probable class, or for independent Bernoulli logits that of each label's
    more probable value; for numbers half of the squared prediction, whose gradient is that of the output along itself.
    """
    logits = _logits(passes, comparison)
    if comparison.divergence == "mse":
        terms = logits.square() / 2
    elif comparison.kind == "labels" or logits.shape[-1] == 1:
        terms = F.logsigmoid(logits.abs())
    else:
        terms = logits.log_softmax(-1).amax(-1, keepdim=True)
    return _weighted_sum(terms, passes, comparison)

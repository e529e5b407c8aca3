"""Choose flips of a mask without a probe: by the base pass's gradient, or by Fisher information."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_advdrop.functional import Flips, adversarial_flips
from lightning_advdrop.masking import MaskSite, Observation
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.passes import Passes

BinaryMasks = dict[MaskSite, Tensor]

# Two masks whose worth differs by less are as good as each other.
_TIE = 1e-5


def rescaled(masks: BinaryMasks, observed: Mapping[MaskSite, Observation]) -> BinaryMasks:
    """Rescale binary masks as they are multiplied, see `lightning_advdrop.masking.MaskSite.rescale`."""
    return {site: observed[site].site.rescale(mask) for site, mask in masks.items()}


def base_gradients(value: Tensor, masks: BinaryMasks, passes: Passes) -> BinaryMasks:
    """Compute the gradient of a value of the base pass with respect to the binary masks under which it ran.

    Args:
        value: a scalar, computed from the base pass.
        masks: the binary masks.
        passes: the base pass; the rescaled masks acted in it, with a gradient.

    Raises:
        ValueError: if no mask acted at one of the sites.
    """
    applied: list[Any] = passes.applied(masks)
    gradients = torch.autograd.grad(value, applied, retain_graph=True, materialize_grads=True)
    return {
        site: _through_rescaling(passes.observed[site].site, mask, gradient)
        for (site, mask), gradient in zip(masks.items(), gradients, strict=True)
    }


def _through_rescaling(site: MaskSite, mask: Tensor, gradient: Tensor) -> Tensor:
    binary = mask.detach().requires_grad_()
    return torch.autograd.grad(site.rescale(binary), binary, gradient)[0]


def fisher_scores(passes: Passes, masks: BinaryMasks, divergence: DivergenceChoice, draws: int) -> BinaryMasks:
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

    Returns:
        The scores, ``(draws, ...)`` of a mask's shape.

    Raises:
        ValueError: if the base pass did not run under the masks.
    """
    drawn = [base_gradients(_drawn_log_probability(passes, divergence), masks, passes) for _ in range(draws)]
    return {site: torch.stack([scores[site] for scores in drawn]) for site in masks}


def fisher_flips(mask: Tensor, scores: Tensor, budget: int, flips: Flips = "both") -> Tensor:
    """Flip the units that raise the second-order term of a divergence most, as estimated by scores.

    Each score proposes two masks: the one that lowers its label's log-probability most, and the one that raises it
    most. Each row takes the proposal with the largest ``d^T F d``, with F the mean outer product of all scores; of
    equals, one that lowers. With one score that is an exact maximiser. Ranking units by F's diagonal alone would mix
    changes that cancel each other.

    Args:
        mask: binary, ``(rows, units)``.
        scores: ``(draws, rows, units)``, see `fisher_scores`.
        budget: the most flips of a row, at least 0.
        flips: ``both`` or ``drop``.

    Returns:
        A new mask like ``mask``, without a gradient.

    Example:
        >>> mask, score = torch.ones(1, 4), torch.tensor([[[3.0, -2.0, 1.0, -2.0]]])
        >>> fisher_flips(mask, score, budget=1)
        tensor([[0., 1., 1., 1.]])
        >>> fisher_flips(mask, torch.tensor([[[3.0, -2.0, 0.5, -2.0]]]), budget=2)
        tensor([[1., 0., 1., 0.]])
    """
    best, largest = mask, scores.new_zeros(len(mask))
    for proposing in (*-scores, *scores):  # those that lower a label's log-probability first
        proposal = adversarial_flips(mask, proposing, budget, flips)
        worth = (scores * (proposal - mask)).sum(-1).square().mean(0)
        best = torch.where((worth > (1 + _TIE) * largest).unsqueeze(-1), proposal, best)
        largest = torch.maximum(worth, largest)
    return best


def _drawn_log_probability(passes: Passes, divergence: DivergenceChoice) -> Tensor:
    """Compute the log-probability of labels drawn from the base prediction, summed over all but padding.

    Each is multiplied by the square root of its weight, so that squares of gradients are weighted by the weight.
    """
    comparison = passes.compared(divergence)
    logits = comparison.read(passes.base)
    logits = logits if logits.dtype is torch.float64 else logits.float()
    on_cpu = logits.detach().cpu()
    if comparison.divergence in {"mse", "mse_logits"}:
        terms = logits * torch.randn(on_cpu.shape, generator=passes.generator, dtype=on_cpu.dtype).to(logits.device)
    elif comparison.kind == "labels" or logits.shape[-1] == 1:
        label = torch.bernoulli(on_cpu.sigmoid(), generator=passes.generator).to(logits.device)
        terms = -torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    else:
        flat = on_cpu.softmax(-1).reshape(-1, on_cpu.shape[-1])
        label = torch.multinomial(flat, 1, generator=passes.generator).view(*on_cpu.shape[:-1], 1).to(logits.device)
        terms = logits.log_softmax(-1).gather(-1, label)
    weight = passes.weights(comparison)
    if weight is not None:
        weight = weight.to(terms)
        weight = weight.view(*weight.shape, *[1] * (terms.dim() - weight.dim()))
        terms = torch.where(weight == 0, 0, terms * weight.sqrt())
    return terms.sum()

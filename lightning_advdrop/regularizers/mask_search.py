"""What a flip of each unit of a mask is worth: the gradient of a divergence, or the Fisher information."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_advdrop.functional import DivergenceName
from lightning_advdrop.masking import MaskSite, Observation

if TYPE_CHECKING:
    from lightning_advdrop.regularizers.base import Passes

BinaryMasks = dict[MaskSite, Tensor]


def rescaled(masks: BinaryMasks, observed: Mapping[MaskSite, Observation]) -> BinaryMasks:
    """Binary masks as they are multiplied, see `lightning_advdrop.masking.MaskSite.rescale`."""
    return {site: observed[site].site.rescale(mask) for site, mask in masks.items()}


def base_gradients(value: Tensor, masks: BinaryMasks, passes: Passes) -> BinaryMasks:
    """The gradient of something computed from the base pass with respect to the binary masks under which that ran.

    Args:
        value: a scalar.
        masks: the binary masks.
        passes: the base pass; the rescaled masks acted in it, with a gradient.

    Raises:
        ValueError: if no mask acted at one of the sites.
    """
    acting: list[Any] = passes.acting(masks)
    gradients = torch.autograd.grad(value, acting, retain_graph=True, materialize_grads=True)
    return {
        site: _through_rescaling(passes.observed[site].site, mask, gradient)
        for (site, mask), gradient in zip(masks.items(), gradients, strict=True)
    }


def _through_rescaling(site: MaskSite, mask: Tensor, gradient: Tensor) -> Tensor:
    binary = mask.detach().requires_grad_()
    return torch.autograd.grad(site.rescale(binary), binary, gradient)[0]


def fisher_gains(passes: Passes, masks: BinaryMasks, divergence: DivergenceName, draws: int) -> BinaryMasks:
    """What flips are worth in second order, where the base pass ran under the start mask itself.

    There, a divergence is stationary, and its second-order term is half of ``d^T F d`` for a change ``d`` of the mask,
    with the Fisher information ``F`` of the prediction. The square of the gradient of a drawn label's log-probability
    is an unbiased estimate of F's diagonal.

    Args:
        passes: the base pass.
        masks: the binary masks under which it ran.
        divergence: says what the prediction stands for: the mean of a normal distribution for ``mse`` and
            ``mse_logits``, independent Bernoulli logits for ``bernoulli_kl`` or a single logit, else a categorical
            distribution.
        draws: how many labels are drawn for each example.

    Returns:
        The squared gradients, at least 0, signed such that `adversarial_flips` takes them as what each flip adds.

    Raises:
        ValueError: if the base pass did not run under the masks.
    """
    total = {site: torch.zeros_like(mask) for site, mask in masks.items()}
    for _ in range(draws):
        gradients = base_gradients(_drawn_log_probability(passes, divergence), masks, passes)
        for site, gradient in gradients.items():
            total[site] += gradient.square() / draws
    return {site: gains * (1 - 2 * masks[site]) for site, gains in total.items()}


def _drawn_log_probability(passes: Passes, divergence: DivergenceName) -> Tensor:
    """The log-probability of labels drawn from the base prediction, summed over everything that is no padding.

    Each is multiplied by the square root of its weight, so that squares of gradients are weighted by the weight.
    """
    logits = passes.base if passes.base.dtype is torch.float64 else passes.base.float()
    on_cpu = logits.detach().cpu()
    if divergence in {"mse", "mse_logits"}:
        terms = logits * torch.randn(on_cpu.shape, generator=passes.generator, dtype=on_cpu.dtype).to(logits.device)
    elif divergence == "bernoulli_kl" or logits.shape[-1] == 1:
        label = torch.bernoulli(on_cpu.sigmoid(), generator=passes.generator).to(logits.device)
        terms = -torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    else:
        flat = on_cpu.softmax(-1).reshape(-1, on_cpu.shape[-1])
        label = torch.multinomial(flat, 1, generator=passes.generator).view(*on_cpu.shape[:-1], 1).to(logits.device)
        terms = logits.log_softmax(-1).gather(-1, label)
    if passes.weight is not None:
        weight = passes.weight.to(terms)
        weight = weight.view(*weight.shape, *[1] * (terms.dim() - weight.dim()))
        terms = torch.where(weight == 0, 0, terms * weight.sqrt())
    return terms.sum()

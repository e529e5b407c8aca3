"""Choose flips of a mask by gradients of the base pass, without a probe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.functional import Direction, Flips, adversarial_flips
from lightning_advdrop.masking import MaskSite, Observation
from lightning_advdrop.regularizers.comparison import Comparison, DivergenceChoice
from lightning_advdrop.regularizers.flips import Rows, choose, flips_by_scores, together
from lightning_advdrop.regularizers.passes import Passes

BinaryMasks = dict[MaskSite, Tensor]
Search = Literal["gradient", "fisher", "top", "label"]


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


def rows_of(
    passes: Passes, masks: BinaryMasks, budgets: Mapping[MaskSite, int], *, as_predicted: bool = False
) -> list[Rows]:
    """Return the masks as rows, with the example that each row acts on.

    Args:
        passes: the base pass.
        masks: the binary masks.
        budgets: the most flips of a row at each site.
        as_predicted: whether examples must have the order of the predictions. Packed sequences have one of their own,
            so that all rows then belong to one example.
    """
    found = []
    for site, mask in masks.items():
        rows, seen = site.as_rows(mask), passes.observed[site]
        example = seen.row_examples(len(rows))
        packed = as_predicted and seen.batch_sizes is not None
        found.append(Rows(rows, torch.full_like(example, -1) if packed else example, budgets[site]))
    return together(found)


def as_masks(masks: BinaryMasks, rows: Sequence[Tensor]) -> BinaryMasks:
    """Give rows the shapes of masks."""
    return {site: site.from_rows(found, mask.shape) for (site, mask), found in zip(masks.items(), rows, strict=True)}


def rounds(totals: Mapping[MaskSite, int], steps: int) -> Iterator[dict[MaskSite, int]]:
    """Yield the flips of a row that each round may make at each site, without rounds in which no site may flip.

    Args:
        totals: the flips of a row in all rounds.
        steps: the number of rounds.
    """
    for number in range(steps):
        last = number == steps - 1
        shares = {
            site: total - (steps - 1) * (total // steps) if last else total // steps for site, total in totals.items()
        }
        if any(shares.values()):
            yield shares


def first_order_masks(
    passes: Passes,
    masks: BinaryMasks,
    budgets: Mapping[MaskSite, int],
    search: Search,
    divergence: DivergenceChoice,
    draws: int,
    flips: Flips,
) -> BinaryMasks:
    """Flip units by gradients of the base pass, which ran under the masks; see `AdversarialDropout` for the searches.

    Args:
        passes: the base pass.
        masks: the binary masks under which it ran.
        budgets: the most flips of a row at each site.
        search: ``fisher``, ``top`` or ``label``.
        divergence: tells the distribution that the prediction describes, see `fisher_scores`.
        draws: the labels that the Fisher search draws for each example.
        flips: ``both`` or ``drop``.

    Raises:
        ValueError: if the base pass did not run under the masks, or ``label`` has neither a loss nor labels.
    """
    rows = rows_of(passes, masks, budgets)
    signs: tuple[int, ...] = (-1,)
    if search == "fisher":
        scores, signs = fisher_scores(passes, masks, divergence, draws), (-1, 1)
    elif search == "top":
        comparison = passes.compared(divergence)
        scores = _scores(base_gradients(leaning(passes, comparison), masks, passes))
        signs = (-1, 1) if comparison.divergence == "mse" else (-1,)
    else:
        scores = _label_scores(passes, masks, rows, passes.compared(divergence))
    as_rows = [torch.stack([site.as_rows(of_draw) for of_draw in score]) for site, score in scores.items()]
    return as_masks(masks, flips_by_scores(rows, as_rows, flips, signs))


def flipped(masks: BinaryMasks, gradients: BinaryMasks, budgets: Mapping[MaskSite, int], flips: Flips) -> BinaryMasks:
    """Flip units of masks by gradients, see `lightning_advdrop.functional.adversarial_flips`.

    Args:
        masks: the binary masks.
        gradients: an objective's gradients with respect to them.
        budgets: the most flips of a row at each site; a mask without any is left as it is.
        flips: ``both`` or ``drop``.
    """
    return {
        site: site.from_rows(
            adversarial_flips(site.as_rows(mask), site.as_rows(gradients[site]), budgets[site], flips), mask.shape
        )
        if budgets[site]
        else mask
        for site, mask in masks.items()
    }


def better_masks(
    passes: Passes,
    masks: BinaryMasks,
    present: BinaryMasks,
    before: Tensor,
    divergence: DivergenceChoice,
    direction: Direction,
) -> BinaryMasks:
    """Take new masks for the examples whose divergence they raise, and keep the present ones for the rest.

    Args:
        passes: the base pass.
        masks: the new masks, for which one pass is run.
        present: the present masks.
        before: the prediction under these.
        divergence: what examples are compared by.
        direction: the direction of the divergence.
    """
    rows = rows_of(passes, masks, dict.fromkeys(masks, 0), as_predicted=True)
    examples = 1 + max(int(each.example.max()) for each in rows)
    with torch.no_grad():
        after = passes.run(rescaled(masks, passes.observed))
    first, second = (passes.distances(other, divergence, direction, examples) for other in (before, after))
    new, old = ([site.as_rows(mask) for site, mask in of.items()] for of in (masks, present))
    return as_masks(masks, choose(rows, second > first, new, old))


def _scores(gradients: BinaryMasks) -> BinaryMasks:
    return {site: gradient.unsqueeze(0) for site, gradient in gradients.items()}


def _label_scores(passes: Passes, masks: BinaryMasks, rows: Sequence[Rows], comparison: Comparison) -> BinaryMasks:
    """Compute the gradient of minus the loss; of what the prediction leans on for examples that the loss leaves out."""
    gradients = base_gradients(-_supervised(passes, comparison), masks, passes)
    used = torch.zeros(1 + max(int(each.example.max()) for each in rows), dtype=torch.bool, device=rows[0].mask.device)
    for each, (site, gradient) in zip(rows, gradients.items(), strict=True):
        used[each.example[site.as_rows(gradient).any(-1)]] = True
    if not used.all():
        leant = base_gradients(leaning(passes, comparison), masks, passes)
        as_rows = [[site.as_rows(gradient) for site, gradient in of.items()] for of in (gradients, leant)]
        gradients = as_masks(masks, choose(rows, used, *as_rows))
    return _scores(gradients)


def _supervised(passes: Passes, comparison: Comparison) -> Tensor:
    if passes.loss is not None:
        return passes.loss
    if passes.target is None:
        raise ValueError(
            "target must be given for search='label', or the loss, got neither; search='top' needs no label."
        )
    return passes.loss_to_target(passes.base, comparison)


# The Fisher search.


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


# What the searches differentiate.


def _drawn_log_probability(passes: Passes, divergence: DivergenceChoice) -> Tensor:
    """Compute the log-probability of labels drawn from the base prediction, summed over all but padding.

    Each is multiplied by the square root of its weight, so that squares of gradients are weighted by the weight.
    """
    comparison = passes.compared(divergence)
    logits = _logits(passes, comparison)
    on_cpu = logits.detach().cpu()
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

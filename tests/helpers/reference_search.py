"""Adversarial dropout with all ways of starting and searching, row by row, on the network of `reference_family`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.helpers.reference_family import Expected, Problem, _none, scaled


def adversarial_masks(p: Problem) -> tuple[Tensor, Tensor]:
    """The reference mask and the adversarial one, binary."""
    settings, ones = p.settings, torch.ones(p.shape(), dtype=torch.float64)
    start = settings.get("start", "one_drop") if settings.get("search", "gradient") == "gradient" else "ones"
    reference = p.mask(settings["start_rate"]) if start == "sampled" else ones
    point = dropped_one(reference, p.generator) if start == "one_drop" else reference
    mask = point if settings.get("keep_start") else reference
    left = settings["budget"] - bool(settings.get("keep_start"))
    steps = settings.get("steps", 1)
    if settings.get("search") in {"top", "label"}:
        return reference, leaning_mask(p, reference, settings["budget"], steps)
    for number in range(steps):
        now = left // steps if number < steps - 1 else left - (steps - 1) * (left // steps)
        if now and settings.get("search") == "fisher":
            mask = point = best_proposal(p, mask, now)
        elif now:
            mask = point = flipped(mask, gains(p, point, mask), now, settings.get("flips", "both"))
    return reference, mask


def adversarial_dropout(p: Problem) -> Expected:
    _, mask = adversarial_masks(p)
    base = p.base()
    return Expected(base, p.distance(base, p.other(scaled(mask))), _none(base))


def gains(p: Problem, point: Tensor, mask: Tensor) -> Tensor:
    """What each flip of a mask is worth in first order at ``point``."""
    leaf = point.clone().requires_grad_()
    value = p.distance(p.base(), p.other(scaled(leaf)), detach_base=True)
    return torch.autograd.grad(value, leaf)[0] * (1 - 2 * mask)


def best_proposal(p: Problem, mask: Tensor, budget: int) -> Tensor:
    """Of the masks that move each drawn label's log-probability most, up or down, the one with the largest curvature.

    That is the mean over all drawn labels of the squared change of their log-probabilities, in first order.
    """
    scores = [drawn_score(p, mask) for _ in range(p.settings["draws"])]
    proposals = [
        flipped(mask, sign * score * (1 - 2 * mask), budget, p.settings["flips"])
        for score in scores
        for sign in (-1, 1)
    ]
    result = mask.clone().view(-1, mask.shape[-1])
    for rows in rows_of_examples(p, mask):
        values = []
        for proposal in proposals:
            change = (proposal - mask).view(result.shape)[rows]
            values.append(sum(float((score.view(result.shape)[rows] * change).sum()) ** 2 for score in scores))
        result[rows] = proposals[values.index(max(values))].view(result.shape)[rows]
    return result.view(mask.shape)


def rows_of_examples(p: Problem, mask: Tensor) -> list[list[int]]:
    """The rows of a mask that act on one prediction: all of them where the batch shares the mask."""
    rows = range(mask.numel() // mask.shape[-1])
    if p.kind in {"weight", "embedding"}:
        return [list(rows)]
    examples = len(p.x)
    return [[row for row in rows if row % examples == example] for example in range(examples)]


def leaning_mask(p: Problem, reference: Tensor, budget: int, steps: int) -> Tensor:
    """Lower what the prediction leans on, or raise the loss; then the better of that mask and of what a probe finds."""
    leaf = reference.clone().requires_grad_()
    base = p.base(scaled(leaf))
    value = -p.loss(base) if p.settings["search"] == "label" else leaning(p, base)
    worth = -torch.autograd.grad(value, leaf)[0] * (1 - 2 * reference)
    mask = flipped(reference, worth, budget, p.settings["flips"])
    for _ in range(steps - 1):
        other = flipped(reference, gains(p, mask, reference), budget, p.settings["flips"])
        before, after = (divergences(p, m, one=p.kind == "weight" or bool(p.model.lengths)) for m in (mask, other))
        for rows, better in zip(rows_of_examples(p, mask), after > before, strict=False):
            if better:
                mask = mask.clone()
                mask.view(-1, mask.shape[-1])[rows] = other.reshape(-1, mask.shape[-1])[rows]
    return mask


def leaning(p: Problem, logits: Tensor) -> Tensor:
    """The log-probability of the class, or of each label's value, that is most probable."""
    if logits.shape[-1] == 1 or p.settings["divergence"] == "bernoulli_kl":
        one = logits.sigmoid()
        logs = torch.maximum(one, 1 - one).log()
    else:
        logs = (logits.exp() / logits.exp().sum(-1, keepdim=True)).max(-1, keepdim=True).values.log()
    weight = torch.ones_like(logs) if p.weight is None else p.weight.double().unsqueeze(-1).expand_as(logs)
    return (weight * logs).sum()


def divergences(p: Problem, mask: Tensor, one: bool) -> Tensor:
    """The divergence of each example under a mask, or the batch's for each."""
    base, other = p.base(), p.other(scaled(mask))
    if one:
        return p.distance(base, other).detach().expand(len(base))
    values = []
    for b in range(len(base)):
        weight = p.weight if p.weight is None else p.weight[b : b + 1]
        single = replace(p, target=p.target[b : b + 1], weight=weight)
        values.append(single.distance(base[b : b + 1], other[b : b + 1]).detach())
    return torch.stack(values)


def drawn_score(p: Problem, point: Tensor) -> Tensor:
    """The gradient of the log-probability of labels drawn from the prediction under a mask."""
    leaf = point.clone().requires_grad_()
    logits = p.base(scaled(leaf))
    if logits.shape[-1] == 1:
        label = torch.bernoulli(logits.detach().sigmoid(), generator=p.generator)
        logs = label * logits.sigmoid().log() + (1 - label) * (1 - logits.sigmoid()).log()
    elif p.settings["divergence"] == "mse_logits":
        drawn = logits.detach() + torch.randn(logits.shape, generator=p.generator, dtype=logits.dtype)
        logs = -0.5 * (drawn - logits).square().sum(-1, keepdim=True)
    else:
        probabilities = logits.detach().softmax(-1).flatten(0, -2)
        label = torch.multinomial(probabilities, 1, generator=p.generator).view(*logits.shape[:-1], 1)
        logs = logits.softmax(-1).log().gather(-1, label)
    logs = logs.squeeze(-1)
    if p.weight is not None:
        logs = logs * p.weight.expand_as(logs).sqrt()
    return torch.autograd.grad(logs.sum(), leaf)[0]


def fisher_information(p: Problem, point: Tensor) -> Tensor:
    """The Fisher information with respect to a mask ``(B, H)``, as ``(B, H, H)``: the sum over all classes."""
    total = torch.zeros(*point.shape, point.shape[-1], dtype=point.dtype)
    for b in range(len(point)):
        for label in range(p.model.out.out_features):
            leaf = point.clone().requires_grad_()
            probability = p.base(scaled(leaf))[b].softmax(-1)[label]
            (score,) = torch.autograd.grad(probability.log(), leaf)
            total[b] += probability.item() * score[b].outer(score[b])
    return total


def dropped_one(mask: Tensor, generator: torch.Generator | None) -> Tensor:
    """One kept unit fewer in each row, at random."""
    rows = mask.clone().view(-1, mask.shape[-1])
    draws = torch.rand(*mask.shape[:-1], 1, generator=generator, dtype=torch.float64).flatten()
    for row, draw in zip(rows, draws, strict=True):
        kept = row.nonzero().flatten()
        row[kept[int(draw * len(kept))]] = 0
    return rows.view(mask.shape)


def flipped(mask: Tensor, worth: Tensor, count: int, flips: str) -> Tensor:
    """The ``count`` flips of each row that are worth most, if they are worth anything."""
    result = mask.clone().view(-1, mask.shape[-1])
    for row, values in zip(result, worth.view(result.shape), strict=True):
        units = [u for u in range(len(row)) if flips == "both" or row[u] == 1]
        for unit in sorted(units, key=lambda u, values=values: -float(values[u]))[:count]:  # type: ignore[misc]
            if values[unit] > 0:
                row[unit] = 1 - row[unit]
    return result.view(mask.shape)

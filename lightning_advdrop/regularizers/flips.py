"""Choose flips in several masks at once that act on the same predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_advdrop.functional import Flips, adversarial_flips

# Two masks whose worth differs by less are as good as each other.
_TIE = 1e-5


@dataclass(frozen=True)
class Rows:
    """The mask of a site as rows.

    Attributes:
        mask: binary, ``(rows, units)``.
        example: the example whose prediction each row acts on, ``(rows,)``.
        budget: the most flips of a row, at least 0.
    """

    mask: Tensor
    example: Tensor
    budget: int

    def flipped(self, gradient: Tensor, flips: Flips) -> Tensor:
        """Flip the units of each row that raise an objective most, by its gradient ``(rows, units)``."""
        if not self.budget:
            return self.mask
        return adversarial_flips(self.mask, gradient, self.budget, flips)


def together(sites: Sequence[Rows]) -> list[Rows]:
    """Let all rows belong to one example where a site's rows do, as where a batch shares a mask.

    Args:
        sites: the rows of each site; those of a mask that the batch shares belong to the example -1.
    """
    if all(bool((rows.example >= 0).all()) for rows in sites):
        return list(sites)
    return [replace(rows, example=torch.zeros_like(rows.example)) for rows in sites]


def flips_by_scores(
    sites: Sequence[Rows], scores: Sequence[Tensor], flips: Flips, signs: Sequence[int] = (-1, 1)
) -> list[Tensor]:
    """Flip the units that change log-probabilities most, whose gradients are the scores.

    Each score proposes two changes of all sites' masks: the one that lowers its log-probability most, and the one that
    raises it most (or one of these, by ``signs``). Each example takes the proposal for which the mean square of all
    changes is largest, in first order and summed over all rows that act on it; of equals, the first. If each row chose
    its sign, the changes at different rows and sites could cancel each other.

    Args:
        sites: the rows of each site.
        scores: for each site ``(draws, rows, units)``.
        flips: ``both`` or ``drop``.
        signs: -1 for the proposals that lower, 1 for those that raise.

    Returns:
        A new mask for each site.

    Example:
        >>> rows = Rows(torch.ones(2, 3), example=torch.tensor([0, 0]), budget=1)
        >>> flips_by_scores([rows], [torch.tensor([[[3.0, -1.0, 0.0], [0.0, 1.0, -2.0]]])], "both")[0]
        tensor([[0., 1., 1.],
                [1., 0., 1.]])
    """
    examples = 1 + max(int(rows.example.max()) for rows in sites)
    best, largest = [rows.mask for rows in sites], scores[0].new_zeros(examples)
    for proposing in _signed(scores, signs):
        proposal = [rows.flipped(score, flips) for rows, score in zip(sites, proposing, strict=True)]
        worth = _changes(sites, proposal, scores, examples).square().mean(0)
        best = choose(sites, worth > (1 + _TIE) * largest, proposal, best)
        largest = torch.maximum(worth, largest)
    return best


def choose(sites: Sequence[Rows], better: Tensor, first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Take the masks of ``first`` for the examples where ``better``, ``(examples,)``, holds, and else of ``second``."""
    return [
        torch.where(better[rows.example].unsqueeze(-1), one, other)
        for rows, one, other in zip(sites, first, second, strict=True)
    ]


def _signed(scores: Sequence[Tensor], signs: Sequence[int]) -> Iterator[list[Tensor]]:
    for sign in signs:
        for draw in range(len(scores[0])):
            yield [sign * score[draw] for score in scores]


def _changes(sites: Sequence[Rows], masks: Sequence[Tensor], scores: Sequence[Tensor], examples: int) -> Tensor:
    """Compute how each draw's log-probability changes for each example, to first order, ``(draws, examples)``."""
    total = scores[0].new_zeros(len(scores[0]), examples)
    for rows, mask, score in zip(sites, masks, scores, strict=True):
        total = total.index_add(1, rows.example, (score * (mask - rows.mask)).sum(-1))
    return total


def fisher_flips(mask: Tensor, scores: Tensor, budget: int, flips: Flips = "both") -> Tensor:
    """Flip the units of a mask that raise the second-order term of a divergence most, as estimated by scores.

    Each score proposes two masks: the one that lowers its label's log-probability most, and the one that raises it
    most. Each row takes the proposal with the largest ``d^T F d``, with F the mean outer product of all scores; of
    equals, one that lowers. With one score that is an exact maximiser, of a row that a prediction depends on alone.
    Ranking units by F's diagonal alone would mix changes that cancel each other.

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
    rows = torch.arange(len(mask), device=mask.device)
    return flips_by_scores([Rows(mask, rows, budget)], [scores], flips)[0]

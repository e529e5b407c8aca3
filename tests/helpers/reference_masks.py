"""The linearised search by brute force: every binary mask is tried."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor


def all_masks(units: int) -> Tensor:
    """Every binary mask of a row, ``(2 ** units, units)``."""
    return torch.tensor(list(product((0.0, 1.0), repeat=units)), dtype=torch.float64)


def within_budget(candidates: Tensor, reference: Tensor, budget: int, flips: str) -> Tensor:
    """Which candidates ``(C, H)`` may replace the row ``reference``, ``(H,)``, as ``(C,)`` booleans."""
    changed = candidates != reference
    allowed = changed.sum(-1) <= budget
    if flips == "drop":
        allowed &= ~(changed & (candidates == 1)).any(-1)
    return allowed


def best_gains(mask: Tensor, grad: Tensor, budget: int, flips: str) -> Tensor:
    """For each row the largest ``grad . (m - mask)`` over all masks ``m`` that the budget allows, ``(rows,)``."""
    candidates = all_masks(mask.shape[-1])
    best = []
    for row, slope in zip(mask.double(), grad.double(), strict=True):
        gains = ((candidates - row) * slope).sum(-1)
        best.append(gains[within_budget(candidates, row, budget, flips)].max())
    return torch.stack(best)

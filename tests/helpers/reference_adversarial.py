"""Adversarial dropout by its definition, for a tiny LSTM classifier that takes its masks as arguments.

Written without the package: an LSTM cell in plain operations, one example and one row at a time where that is simplest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

Forward = Callable[[Sequence[Tensor]], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]


class Classifier(nn.Module):
    """Layers of LSTM and a linear layer, in float64; weights are those of `torch.nn` modules."""

    def __init__(
        self, units: int = 8, layers: int = 1, features: int = 3, classes: int = 3, dropout: float = 0
    ) -> None:
        super().__init__()
        self.before = nn.Dropout(dropout)
        self.lstm = nn.LSTM(features, units, layers)
        self.out = nn.Linear(units, classes)
        self.double()

    def forward(self, x: Tensor) -> Tensor:  # (T, B, features)
        logits: Tensor = self.out(self.lstm(self.before(x))[0][-1])
        return logits

    def under(self, x: Tensor, masks: Sequence[Tensor], kind: str) -> Tensor:
        """The output under a mask for each layer, each rescaled; ``x`` is what the LSTM reads."""
        for layer, mask in enumerate(masks):
            x = self._layer(x, layer, scaled(mask), kind)
        logits: Tensor = self.out(x[-1])
        return logits

    def _layer(self, x: Tensor, layer: int, mask: Tensor, kind: str) -> Tensor:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        w_ih, w_hh, b_ih, b_hh = (getattr(self.lstm, f"{name}_l{layer}") for name in names)
        w_hh = w_hh * mask if kind == "weight" else w_hh
        h = c = x.new_zeros(x.shape[1], self.lstm.hidden_size)
        outputs = []
        for step in x.unbind(0):
            inside = h if kind == "weight" else h * mask
            i, f, g, o = (step @ w_ih.T + b_ih + inside @ w_hh.T + b_hh).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs)


def scaled(mask: Tensor) -> Tensor:
    """Rows times units over kept units."""
    rows = []
    for row in mask:
        kept = row.sum()
        rows.append(row * (len(row) / kept) if kept > 0 else row)
    return torch.stack(rows)


def distance(name: str, direction: str, target: Tensor) -> Distance:
    """``D(base, adversarial)``, a mean over examples."""

    def compute(base: Tensor, adversarial: Tensor) -> Tensor:
        if name == "ce":
            logs = adversarial - adversarial.exp().sum(-1, keepdim=True).log()
            return -logs[torch.arange(len(target)), target].sum() / len(target)
        if name == "mse_logits":
            return (base - adversarial).pow(2).sum() / base.numel()
        p, q = (z.exp() / z.exp().sum(-1, keepdim=True) for z in (base, adversarial))
        if name == "mse_probs":
            return (p - q).pow(2).sum() / p.numel()
        p, q = (p, q) if direction == "base_adv" else (q, p)
        return (p * (p / q).log()).sum() / len(p)

    return compute


@dataclass
class Search:
    """The linearised search of section "the linearised search", round by round."""

    steps: int
    flips: str
    keep_start: bool

    def __call__(
        self, objective: Callable[[Sequence[Tensor]], Tensor], starts: Sequence[Tensor], budgets: Sequence[int]
    ) -> list[Tensor]:
        """Masks around all ones; ``starts`` is where the objective is linearised first."""
        point = [start.clone() for start in starts]
        masks = [start.clone() if self.keep_start else torch.ones_like(start) for start in starts]
        left = [budget - (1 if self.keep_start else 0) for budget in budgets]
        per_round = [n // self.steps for n in left]
        for number in range(self.steps):
            now = left if number == self.steps - 1 else per_round
            left = [a - b for a, b in zip(left, per_round, strict=True)]
            leaves = [mask.clone().requires_grad_() for mask in point]
            gradients = torch.autograd.grad(objective(leaves), leaves)
            for site, count in enumerate(now):
                if count > 0:
                    masks[site] = self._flip(masks[site], gradients[site], count)
                    point[site] = masks[site].clone()
        return masks

    def _flip(self, mask: Tensor, gradient: Tensor, count: int) -> Tensor:
        result = mask.clone()
        for row in range(len(mask)):
            gains = []
            for unit in range(mask.shape[1]):
                value = mask[row, unit].item()
                if value == 0 and self.flips == "drop":
                    continue
                gains.append((gradient[row, unit].item() * (1 - 2 * value), unit))
            for gain, unit in sorted(gains, reverse=True)[:count]:
                if gain > 0:
                    result[row, unit] = 1 - result[row, unit]
        return result


def exact_maximum(divergences: Callable[[Tensor], Tensor], batch: int, units: int, budget: int) -> Tensor:
    """The largest divergence of each example ``(B,)`` over all masks with at most ``budget`` zeros.

    Args:
        divergences: the divergence of each example under a mask ``(B, units)``.
        batch: number of examples.
        units: length of a mask's row.
        budget: most zeros of a row.
    """
    best = torch.zeros(batch, dtype=torch.float64)
    for count in range(1, budget + 1):
        for dropped in combinations(range(units), count):
            mask = torch.ones(batch, units, dtype=torch.float64)
            mask[:, list(dropped)] = 0
            best = torch.maximum(best, divergences(mask))
    return best

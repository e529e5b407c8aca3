"""The bound by brute force: how much of the exact maximum the searches reach, on a network with 8 recurrent units.

Run with ``python -m tests.benchmarks.bound``. Prints, for an untrained and a trained network and several budgets, the
largest divergence over all masks within the budget, the mean over all masks that drop exactly as many units, and what
the searches find, as shares of the largest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.regularizers import AdversarialDropout
from tests.benchmarks.searches import print_tables
from tests.helpers.recording import passes_of
from tests.helpers.reference_adversarial import Classifier

UNITS, STEPS, BATCH, TRAINING_STEPS = 8, 6, 64, 300
SEARCHES: dict[str, dict[str, Any]] = {
    "K = 1": {"search": "gradient"},
    "K = 2": {"search": "gradient", "steps": 2},
    "K = 4": {"search": "gradient", "steps": 4},
    "Fisher": {"search": "fisher"},
    "Fisher, 8 draws": {"search": "fisher", "draws": 8},
    "label": {"search": "label"},
    "top": {"search": "top"},
    "top, K = 2": {"search": "top", "steps": 2},
}


def make_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences ``(T, B, 3)`` and which of their features has the largest mean."""
    x = torch.randn(STEPS, BATCH, 3, dtype=torch.float64, generator=generator)
    return x, labels(x)


def labels(x: Tensor) -> Tensor:
    """Which feature of sequences ``(T, B, 3)`` has the largest mean, ``(B,)``."""
    return x.mean(0).argmax(-1)


def make_classifier(training_steps: int, seed: int = 0) -> Classifier:
    """A classifier after so many steps of training."""
    torch.manual_seed(seed)
    model, generator = Classifier(UNITS), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(training_steps):
        x, target = make_batch(generator)
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x), target))
        optimizer.step()
    return model


@dataclass
class Bound:
    """Divergences ``KL(base || other)`` of a batch's examples, each ``(B,)``.

    Attributes:
        exact: the largest over all masks within the budget.
        random: the mean over all masks that drop exactly as many units as the budget allows.
        found: under the mask that each search finds, a mean over its random draws.
    """

    exact: Tensor
    random: Tensor
    found: dict[str, Tensor]

    def shares(self) -> dict[str, float]:
        """Return what each search reaches, as a share of the exact maximum, both averaged over the batch."""
        return {name: float(value.mean() / self.exact.mean()) for name, value in self.found.items()}


def bound(model: Classifier, x: Tensor, budget: int, seeds: int = 8) -> Bound:
    """Enumerates masks, and searches.

    Args:
        model: the network.
        x: a batch ``(T, B, 3)``.
        budget: the most units that a mask drops.
        seeds: how often each search is made, with other random numbers.
    """
    divergences = {count: torch.stack(list(_of_masks(model, x, count))) for count in range(budget + 1)}
    exact = torch.cat(list(divergences.values())).amax(0)
    found = {
        name: torch.stack([_searched(model, x, budget, seed, arguments) for seed in range(seeds)]).mean(0)
        for name, arguments in SEARCHES.items()
    }
    return Bound(exact, divergences[budget].mean(0), found)


def _of_masks(model: Classifier, x: Tensor, count: int) -> Iterator[Tensor]:
    """The divergences under each mask with so many zeros, the same for all examples."""
    for dropped in combinations(range(UNITS), count):
        mask = torch.ones(x.shape[1], UNITS, dtype=x.dtype)
        mask[:, list(dropped)] = 0
        yield divergence(model, x, mask)


@torch.no_grad()
def divergence(model: Classifier, x: Tensor, mask: Tensor) -> Tensor:
    """``KL(base || other)`` of each example, by plain operations."""
    base, other = model(x).log_softmax(-1), model.under(x, [mask], "recurrent").log_softmax(-1)
    result: Tensor = (base.exp() * (base - other)).sum(-1)
    return result


def _searched(model: Classifier, x: Tensor, budget: int, seed: int, arguments: dict[str, Any]) -> Tensor:
    regularizer = AdversarialDropout(rate=budget / UNITS, divergence="kl", share_masks=False, **arguments)
    (mask,) = regularizer.penalty(passes_of(regularizer, model, x, seed=seed, target=labels(x))).masks.values()
    return divergence(model, x, mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="how often each search is made")
    parser.add_argument("--quick", action="store_true", help="leave out the tables of digits")
    arguments = parser.parse_args()
    names = ["network", "budget", "exact maximum", "mean over masks", "share", *SEARCHES]
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for training_steps, name in ((0, "untrained"), (TRAINING_STEPS, "trained")):
        model = make_classifier(training_steps)
        x, _ = make_batch(torch.Generator().manual_seed(1))
        for budget in (1, 2, 4):
            found = bound(model, x, budget, arguments.seeds)
            exact, mean = float(found.exact.mean()), float(found.random.mean())
            shares = " | ".join(f"{share:.2f}" for share in (mean / exact, *found.shares().values()))
            print(f"| {name} | {budget} of {UNITS} | {exact:.3g} | {mean:.3g} | {shares} |")
    if not arguments.quick:
        print_tables()


if __name__ == "__main__":
    main()

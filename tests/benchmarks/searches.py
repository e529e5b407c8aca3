"""What each search finds on digits: shares of the exact maximum, and divergences at other sites and sizes.

`tests.benchmarks.bound` prints it. Networks are trained on scikit-learn's digits, read row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from statistics import mean, median, stdev
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_advdrop.functional import rescale_mask
from lightning_advdrop.masking import Masks, SiteSpecs, apply, find_sites
from lightning_advdrop.regularizers import AdversarialDropout
from tests.helpers.recording import passes_of

TRAINING, EXAMPLES, EPOCHS, SEEDS = 1000, 128, 80, (0, 1, 2, 3, 4, 5)
# Of Student's distribution with one degree of freedom less than there are networks, at 97.5 %.
QUANTILE = 2.571
SEARCHES: dict[str, dict[str, Any]] = {
    "gradient, K = 1": {"search": "gradient"},
    "gradient, K = 2": {"search": "gradient", "steps": 2},
    "gradient, K = 3": {"search": "gradient", "steps": 3},
    "one drop kept (published)": {"search": "gradient", "keep_start": True},
    "Fisher": {"search": "fisher"},
    "label": {"search": "label"},
    "top": {"search": "top"},
    "top, then 1 probe": {"search": "top", "steps": 2},
    "top, then 3 probes": {"search": "top", "steps": 4},
}
# Pairs whose difference is printed with its interval.
PAIRS = [("top", "gradient, K = 1"), ("top, then 1 probe", "gradient, K = 2"), ("label", "gradient, K = 1")]


class Rows(nn.Module):
    """An LSTM that reads digits ``(B, 8, 8)`` row by row, and classifies its last output."""

    def __init__(self, units: int, layers: int = 1, *, bidirectional: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(8, units, layers, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(units * (1 + bidirectional), 10)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits ``(B, 10)``."""
        logits: Tensor = self.out(self.lstm(self.dropout(x))[0][:, -1])
        return logits


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Images ``(1797, 8, 8)`` in [0, 1], and labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32).view(-1, 8, 8) / 16, torch.tensor(labels)


@cache
def trained(seed: int, units: int, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0) -> Rows:
    """A network after so many epochs of plain training."""
    torch.manual_seed(seed)
    model, (x, y) = Rows(units, layers, bidirectional=bidirectional, dropout=dropout), digits()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(EPOCHS):
        for batch in torch.chunk(torch.randperm(TRAINING), 10):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(x[batch]), y[batch]))
            optimizer.step()
    return model


def unseen() -> tuple[Tensor, Tensor]:
    """Images and labels that no network was trained on."""
    x, y = digits()
    return x[TRAINING : TRAINING + EXAMPLES], y[TRAINING : TRAINING + EXAMPLES]


def accuracy(model: Rows) -> float:
    """On all images that no network was trained on."""
    x, y = digits()
    return float((model.eval()(x[TRAINING:]).argmax(-1) == y[TRAINING:]).double().mean())


@torch.no_grad()
def divergences(model: nn.Module, x: Tensor, masks: Masks) -> Tensor:
    """``KL(base || masked)`` of each example ``(B,)``; the masks are as they are multiplied."""
    base = model(x).log_softmax(-1)
    with apply(model, masks):
        other = model(x).log_softmax(-1)
    result: Tensor = (base.exp() * (base - other)).sum(-1)
    return result


def found(
    model: Rows, budget: int, arguments: Mapping[str, Any], sites: SiteSpecs, seed: int, batch: slice = slice(EXAMPLES)
) -> Tensor:
    """The divergence of each example of a batch under the masks that a search finds."""
    x, y = (part[batch] for part in unseen())
    regularizer = AdversarialDropout(budget / model.lstm.hidden_size, divergence="kl", share_masks=False, **arguments)
    passes = passes_of(regularizer, model, x, sites, seed=seed, target=y)
    masks = regularizer.penalty(passes).masks
    return divergences(model, x, {site: site.rescale(mask) for site, mask in masks.items()})


def further_forwards(arguments: Mapping[str, Any]) -> int:
    """How many forward passes a step with this search makes beside the base pass."""
    model, (x, y), calls = trained(0, 12), unseen(), []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    regularizer = AdversarialDropout(0.25, divergence="kl", **arguments)
    regularizer.penalty(passes_of(regularizer, model, x, target=y))
    handle.remove()
    return len(calls) - 1


def random_drops(model: Rows, budget: int, sites: SiteSpecs, seed: int, *, steps: int | None = None) -> Tensor:
    """The divergence under random masks that drop exactly so many units of each row."""
    x, _ = unseen()
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for site in find_sites(model, sites):
        shape = site.shape(len(x)) if steps is None else (steps, *site.shape(len(x)))
        places = torch.rand(shape, generator=generator).topk(budget, dim=-1).indices
        masks[site] = rescale_mask(torch.ones(shape).scatter(-1, places, 0))
    return divergences(model, x, masks)


@cache
def largest(seed: int, units: int, layers: int, budget: int) -> Tensor:
    """The largest divergence of each example over all masks that drop exactly so many units of each layer."""
    model, (x, _) = trained(seed, units, layers), unseen()
    best = torch.zeros(len(x))
    for chunk in _chunks(list(product(combinations(range(units), budget), repeat=layers)), 256):
        rows = torch.ones(layers, len(chunk), units)
        for number, drops in enumerate(chunk):
            for layer, places in enumerate(drops):
                rows[layer, number, list(places)] = 0
        sites = find_sites(model, "recurrent")
        masks = {site: rescale_mask(row).repeat_interleave(len(x), 0) for site, row in zip(sites, rows, strict=True)}
        values = divergences(model, x.repeat(len(chunk), 1, 1), masks).view(len(chunk), len(x))
        best = torch.maximum(best, values.amax(0))
    return best


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# By search, a value of each network.
Values = dict[str, list[float]]


def shares(units: int, layers: int, budget: int) -> Values:
    """The share of the exact maximum that each search finds, the median over examples."""
    values: Values = {}
    for seed in SEEDS:
        model, exact = trained(seed, units, layers), largest(seed, units, layers, budget)
        got = {"one random mask": random_drops(model, budget, "recurrent", seed)}
        got |= {name: found(model, budget, more, "recurrent", seed) for name, more in SEARCHES.items()}
        for name, value in got.items():
            values.setdefault(name, []).append(median((value / exact).tolist()))
    return values


@dataclass(frozen=True)
class Setting:
    """A network, its sites, and the arguments of the search.

    Attributes:
        name: what it is.
        network: arguments of `trained`.
        budget: drops of a row.
        sites: where masks act.
        more: arguments of the regularizer.
        examples: the size of a batch.
        batches: their number.
    """

    name: str
    network: tuple[Any, ...]
    budget: int
    sites: str = "recurrent"
    more: tuple[tuple[str, Any], ...] = ()
    examples: int = EXAMPLES
    batches: int = 1


SETTINGS = [
    Setting("100 units, 3 drops", (100,), 3),
    Setting("100 units, 6 drops", (100,), 6),
    Setting("3 layers of 32, 2 drops each", (32, 3), 2),
    Setting("2 directions of 32, 2 drops each", (32, 1, True), 2),
    Setting("32 units, a mask for each step, 1 drop", (32,), 1, more=(("per_step", True),)),
    Setting("32 units, weight, 2 drops a row", (32,), 2, "weight"),
    Setting("32 units, weight, 2 drops a row, 16 batches of 1", (32,), 2, "weight", examples=1, batches=16),
    Setting("32 units behind dropout of 0.3, 2 drops", (32, 1, False, 0.3), 2),
]


def values(setting: Setting) -> Values:
    """The mean divergence that each search finds, over examples."""
    got: Values = {}
    starts = range(0, setting.examples * setting.batches, setting.examples)
    for seed in SEEDS:
        model = trained(seed, *setting.network)
        for name, arguments in SEARCHES.items():
            more = dict(setting.more) | arguments
            each = [
                found(model, setting.budget, more, setting.sites, seed, slice(start, start + setting.examples))
                for start in starts
            ]
            got.setdefault(name, []).append(float(torch.cat(each).mean()))
    return got


def print_tables() -> None:
    """Print the accuracy of the networks, the shares, and the divergences: means over networks."""
    accuracies = ", ".join(f"{accuracy(trained(seed, 12)):.2f}" for seed in SEEDS)
    print(f"\nDigits by rows, LSTM of 12 units (accuracy {accuracies}): share of the exact maximum, median of examples")
    columns = {f"k = {budget}": shares(12, 1, budget) for budget in (1, 2, 3)}
    columns["3 layers of 8, k = 1 each"] = shares(8, 3, 1)
    _print(columns, 2)
    print("\nDigits by rows, other networks and sites: mean KL that is found")
    _print({setting.name: values(setting) for setting in SETTINGS}, 3)


def interval(first: list[float], second: list[float]) -> tuple[float, float]:
    """The mean difference of two searches over networks, and half the width of its 95 % interval."""
    differences = [one - other for one, other in zip(first, second, strict=True)]
    return mean(differences), QUANTILE * stdev(differences) / len(differences) ** 0.5


def _print(columns: Mapping[str, Values], digits: int) -> None:
    print(f"| search | further forwards | {' | '.join(columns)} |\n|{' --- |' * (2 + len(columns))}")
    for name in next(iter(columns.values())):
        forwards = further_forwards(SEARCHES[name]) if name in SEARCHES else ""
        print(f"| {name} | {forwards} | {' | '.join(f'{mean(of[name]):.{digits}f}' for of in columns.values())} |")
    print(f"\n| difference | {' | '.join(columns)} |\n|{' --- |' * (1 + len(columns))}")
    for first, second in PAIRS:
        found = [interval(of[first], of[second]) for of in columns.values()]
        cells = " | ".join(f"{middle:+.{digits}f} ± {half:.{digits}f}" for middle, half in found)
        print(f"| {first} less {second} | {cells} |")

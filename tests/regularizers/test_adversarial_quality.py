"""How good the masks are that the linearised search finds, on a small trained classifier."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.regularizers import AdversarialDropout
from tests.helpers.recording import passes_of
from tests.helpers.reference_adversarial import Classifier, exact_maximum

BATCH, STEPS, UNITS = 48, 6, 8


@cache
def trained() -> tuple[Classifier, Tensor]:
    """A classifier that tells which of three features has the largest mean, and a batch of its data."""
    torch.manual_seed(7)
    model = Classifier(UNITS)
    x = torch.randn(STEPS, BATCH, 3, dtype=torch.float64)
    target = x.mean(0).argmax(-1)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(25):
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x), target))
        optimizer.step()
    assert (model(x).argmax(-1) == target).double().mean() > 0.8
    return model, x


@torch.no_grad()
def divergences(mask: Tensor) -> Tensor:
    """``KL(base || adversarial)`` of each example ``(B,)``."""
    model, x = trained()
    base, other = model(x).log_softmax(-1), model.under(x, [mask], "recurrent").log_softmax(-1)
    result: Tensor = (base.exp() * (base - other)).sum(-1)
    return result


def found(drops: int, steps: int) -> Tensor:
    model, x = trained()
    regularizer = AdversarialDropout(rate=drops / UNITS, steps=steps, search="gradient", divergence="kl")
    passes = passes_of(regularizer, model, x, seed=1)
    (mask,) = regularizer.find_masks(passes, {site: site.ones(BATCH) for site in passes.observed}).values()
    return mask


def random_like(mask: Tensor) -> Tensor:
    """Random masks with as many zeros in each row."""
    ranks = torch.rand(mask.shape).argsort(-1).argsort(-1)
    return (ranks >= (mask == 0).sum(-1, keepdim=True)).double()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("drops", [1, 2, 4])
def test_the_found_masks_beat_random_ones(drops: int, steps: int) -> None:
    mask = found(drops, steps)
    value = divergences(mask).mean()
    others = torch.stack([divergences(random_like(mask)).mean() for _ in range(60)])
    assert (value > others).double().mean() >= 0.95


@pytest.mark.parametrize("drops", [1, 2, 4])
def test_the_found_masks_come_near_the_exact_maximum(drops: int) -> None:
    best = exact_maximum(divergences, BATCH, UNITS, drops)
    shares = []
    for steps in (1, 2):
        value = divergences(found(drops, steps))
        assert (value <= best + 1e-12).all()
        shares.append(float(value.mean() / best.mean()))
    assert min(shares) > 0.3
    assert shares[1] >= shares[0]

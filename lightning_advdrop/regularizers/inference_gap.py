"""The gap between dropout's training and inference phases, and the adversarial value that bounds it, on one batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_advdrop.functional import Direction, flip_budget
from lightning_advdrop.masking import MaskSite, Observation
from lightning_advdrop.regularizers.adversarial_dropout import AdversarialDropout
from lightning_advdrop.regularizers.base_scores import BinaryMasks
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import at_least_one, compares_two
from lightning_advdrop.regularizers.mask_search import rescaled
from lightning_advdrop.regularizers.passes import Passes


@dataclass(frozen=True)
class InferenceGap:
    """The result of `inference_gap`, without a graph.

    Attributes:
        random: the mean divergence over the random masks, a scalar.
        adversarial: the divergence under the adversarial masks, a scalar.
        samples: the divergence under each of the random masks, ``(samples,)``.
    """

    random: Tensor
    adversarial: Tensor
    samples: Tensor


def inference_gap(
    passes: Passes,
    rate: float = 0.05,
    divergence: DivergenceChoice = "auto",
    direction: Direction = "base_adv",
    samples: int = 8,
    steps: int = 1,
) -> InferenceGap:
    """Measure how far dropout moves the prediction of the network without dropout: at random, and at worst.

    The mean over random masks is the gap between dropout's training phase and its inference phase. Each mask drops
    exactly as many units of each row as the budget allows, so that it is one of the masks of the adversarial search.
    Therefore the exact maximum is never below the mean: the bound of the paper. The search is linearised, and its value
    may fall short of the maximum. Where dropping units hardly matters it may fall below the mean.

    Source: Park, Song, Ji, Lee & Moon, "Adversarial Dropout for Recurrent Neural Networks", AAAI 2019
    (arXiv 1904.09816), the bound; Ma et al., "Dropout with Expectation-linear Regularization", ICLR 2017
    (arXiv 1609.08017), the gap.

    Args:
        passes: the base pass, which should be the network as it predicts: in eval mode, nothing masked. It needs no
            graph. Its recorded forward should share the noise of the base pass.
        rate: the budget: the share of a mask row's units that a mask drops, in [0, 1]; at least one unit for any rate
            above 0. A drop probability would give a random number of drops. A site's own rate takes precedence.
        divergence: ``auto`` to choose by the labels in ``passes`` (see `decide`), ``kl``, ``mse_logits``,
            ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several labels).
        direction: ``base_adv`` for ``D(base, masked)``, or ``adv_base`` for ``D(masked, base)``.
        samples: the number of random masks, at least 1.
        steps: the rounds of the adversarial search, at least 1.

    Raises:
        ValueError: if an argument is not in its range or list, no site took part in the base pass, or one did whose
            units the network drops itself (the kind ``dropout``).

    Example:
        >>> from lightning_advdrop.masking import RecordedForward, find_sites
        >>> _ = torch.manual_seed(0)
        >>> lstm, x = torch.nn.LSTM(4, 8).eval(), torch.randn(5, 16, 4)
        >>> recorded = RecordedForward(lstm, find_sites(lstm), share_noise=True)
        >>> with recorded.first_run():
        ...     base = lstm(x)[0][-1]
        >>> gap = inference_gap(Passes(recorded, lambda: lstm(x)[0][-1], base), rate=0.25, divergence="kl")
        >>> bool(0 < gap.random < gap.adversarial), gap.samples.shape
        (True, torch.Size([8]))
    """
    search = gap_search(rate, divergence, direction, samples, steps)
    budgets = _budgets(passes, rate)
    with torch.no_grad():
        values = [_value(search, passes, _random_drops(passes, budgets)) for _ in range(samples)]
    reference = {site: passes.observed[site].ones() for site in budgets}
    with torch.enable_grad(), _backward_in_eval_mode(passes.base):
        found = search.find_masks(passes, reference)
    with torch.no_grad():
        adversarial = _value(search, passes, found)
    drawn = torch.stack(values)
    return InferenceGap(drawn.mean(), adversarial, drawn)


def gap_search(
    rate: float, divergence: DivergenceChoice, direction: Direction, samples: int, steps: int
) -> AdversarialDropout:
    """Make the search of `inference_gap`, whose arguments it takes and checks.

    Raises:
        ValueError: if one of them is not in its range or list.
    """
    compares_two("divergence", divergence)
    at_least_one("samples", samples)
    return AdversarialDropout(rate, steps, divergence, direction)


def _budgets(passes: Passes, rate: float) -> Mapping[MaskSite, int]:
    """Compute the budget of each site that took part, in units of a row, without sites of a budget of 0."""
    own = ", ".join(site.name for site in passes.observed if site.kind == "dropout")
    if own:
        raise ValueError(
            f"sites: the network drops units at {own} itself in the base pass, which must be made in eval mode."
        )
    rates = {site: rate if seen.site.rate is None else seen.site.rate for site, seen in passes.observed.items()}
    return {site: flip_budget(rate, passes.observed[site].site.units) for site, rate in rates.items() if rate}


def _random_drops(passes: Passes, budgets: Mapping[MaskSite, int]) -> BinaryMasks:
    return {site: _with_drops(passes.observed[site], budget, passes.generator) for site, budget in budgets.items()}


def _with_drops(seen: Observation, budget: int, generator: torch.Generator | None) -> Tensor:
    """Draw a mask with exactly ``budget`` zeros in each row, uniformly at random."""
    rows = seen.site.as_rows(seen.ones())
    # Drawn on the CPU, so that every device gets the same masks.
    dropped = torch.rand(rows.shape, generator=generator).topk(budget, dim=-1).indices
    return rows.scatter(-1, dropped.to(rows.device), 0).view(seen.ones().shape)


def _value(search: AdversarialDropout, passes: Passes, masks: BinaryMasks) -> Tensor:
    if not masks:  # every budget is 0, and the prediction stays as it is
        return passes.base.new_zeros((), dtype=torch.promote_types(passes.base.dtype, torch.float32))
    other = passes.run(rescaled(masks, passes.observed))
    return passes.distance(other, search.divergence, search.direction, detach_base=True)


def _backward_in_eval_mode(prediction: Tensor) -> AbstractContextManager[None]:
    """Use torch's own recurrent layers: cuDNN's have no backward pass in eval mode."""
    return torch.backends.cudnn.flags(enabled=False) if prediction.is_cuda else nullcontext()

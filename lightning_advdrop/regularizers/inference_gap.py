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
from lightning_advdrop.regularizers.flips import choose
from lightning_advdrop.regularizers.mask_search import as_masks, rescaled, rows_of
from lightning_advdrop.regularizers.mean_prediction import MeanPrediction
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.probes import Probes


@dataclass(frozen=True)
class InferenceGap:
    """The result of `inference_gap`, without a graph.

    Attributes:
        random: the mean divergence over the random masks, a scalar.
        adversarial: the divergence under the adversarial masks, a scalar.
        samples: the divergence under each of the random masks, ``(samples,)``.
        random_max: the divergence where each example takes the worst of its random masks, a scalar. Where examples
            share a mask, as at a ``weight``, all take the same one.
        mean_prediction: the divergence of the mean prediction under the random masks, a scalar: of the mean of the
            probabilities of classes and labels (``kl``, ``bernoulli_kl``, ``mse_probs``), and of the values of numbers
            and logits (``mse``, ``mse_logits``).
    """

    random: Tensor
    adversarial: Tensor
    samples: Tensor
    random_max: Tensor
    mean_prediction: Tensor


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
    Therefore the exact maximum over all masks of the budget is never below the mean: the bound of the paper. It is not
    known; two estimates from below are the worst of the random masks, and the mask that a search finds. The search is
    linearised, and where dropping units hardly matters its value may fall below the mean over random masks.

    The mean of the divergences is not the divergence of the mean prediction, which is at most as large: predictions
    that random masks move in different directions cancel each other in the mean.

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
        >>> bool(gap.mean_prediction < gap.random < gap.random_max), bool(gap.random < gap.adversarial)
        (True, True)
    """
    search = gap_search(rate, divergence, direction, samples, steps)
    budgets = _budgets(passes, rate)
    with torch.no_grad():
        drawn, random_max, mean_prediction = _at_random(search, passes, budgets, samples)
    reference = {site: passes.observed[site].ones() for site in budgets}
    with torch.enable_grad(), _backward_in_eval_mode(passes.base):
        found = search.find_masks(passes, reference)
    with torch.no_grad():
        adversarial = _value(search, passes, found)
    return InferenceGap(drawn.mean(), adversarial, drawn, random_max, mean_prediction)


def gap_search(
    rate: float, divergence: DivergenceChoice, direction: Direction, samples: int, steps: int
) -> AdversarialDropout:
    """Make the search of `inference_gap`, whose arguments it takes and checks.

    Raises:
        ValueError: if one of them is not in its range or list.
    """
    compares_two("divergence", divergence)
    at_least_one("samples", samples)
    return AdversarialDropout(rate, steps, divergence, direction, search="gradient")


def _budgets(passes: Passes, rate: float) -> Mapping[MaskSite, int]:
    """Compute the budget of each site that took part, in units of a row, without sites of a budget of 0."""
    own = ", ".join(site.name for site in passes.observed if site.kind == "dropout")
    if own:
        raise ValueError(
            f"sites: the network drops units at {own} itself in the base pass, which must be made in eval mode."
        )
    rates = {site: rate if seen.site.rate is None else seen.site.rate for site, seen in passes.observed.items()}
    return {site: flip_budget(rate, passes.observed[site].site.units) for site, rate in rates.items() if rate}


def _at_random(
    search: AdversarialDropout, passes: Passes, budgets: Mapping[MaskSite, int], samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the divergences under random masks, under each example's worst, and of the mean prediction."""
    if not budgets:  # the prediction stays as it is
        nothing = passes.base.new_zeros((), dtype=torch.promote_types(passes.base.dtype, torch.float32))
        return nothing.expand(samples), nothing, nothing
    mean, worst, values = MeanPrediction(passes.compared(search.divergence)), _WorstMasks(search, passes), []
    for _ in range(samples):
        masks = _random_drops(passes, budgets)
        prediction = passes.run(rescaled(masks, passes.observed))
        values.append(_distance(search, passes, prediction))
        mean.add(prediction)
        worst.add(masks, prediction)
    return torch.stack(values), _value(search, passes, worst.masks), _distance(search, passes, mean.value())


class _WorstMasks:
    """Keep, of several masks, the one of each example under which its divergence is largest."""

    def __init__(self, search: AdversarialDropout, passes: Passes) -> None:
        self.masks: BinaryMasks = {}
        self._passes = passes
        self._probes = Probes(search.divergence, search.direction, MaskSite.rescale, search.known_examples)
        self._largest: Tensor | None = None

    def add(self, masks: BinaryMasks, prediction: Tensor) -> None:
        """Take notice of masks, and of the prediction under them."""
        rows = rows_of(self._passes, masks, dict.fromkeys(masks, 0), as_predicted=True)
        with _backward_in_eval_mode(self._passes.base):
            found = self._probes.distances(self._passes, prediction, masks, rows)
        if self._largest is None:
            self.masks, self._largest = masks, found
            return
        new, old = ([site.as_rows(mask) for site, mask in of.items()] for of in (masks, self.masks))
        self.masks = as_masks(masks, choose(rows, found > self._largest, new, old))
        self._largest = torch.maximum(self._largest, found)


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
    return _distance(search, passes, passes.run(rescaled(masks, passes.observed)))


def _distance(search: AdversarialDropout, passes: Passes, prediction: Tensor) -> Tensor:
    return passes.distance(prediction, search.divergence, search.direction, detach_base=True)


def _backward_in_eval_mode(prediction: Tensor) -> AbstractContextManager[None]:
    """Use torch's own recurrent layers: cuDNN's have no backward pass in eval mode."""
    return torch.backends.cudnn.flags(enabled=False) if prediction.is_cuda else nullcontext()

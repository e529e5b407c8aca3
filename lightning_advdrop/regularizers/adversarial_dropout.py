"""Adversarial dropout: the mask inside a small budget that changes the prediction most."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_advdrop.functional import (
    Direction,
    DivergenceName,
    Flips,
    adversarial_flips,
    check_divergence,
    divergence,
    flip_budget,
    rescale_mask,
)
from lightning_advdrop.masking import MaskSite
from lightning_advdrop.regularizers.base import Passes, Penalty, Regularizer

Start = Literal["ones", "one_drop"]
_BinaryMasks = dict[MaskSite, Tensor]

# A divergence at the start mask below this is the rounding error of two equal predictions.
_SAME_PREDICTION = 1e-9


class AdversarialDropout(Regularizer):
    """Finds, for each example, the dropout mask within a budget that changes the prediction most.

    The penalty is the divergence between the base prediction and the one under that mask. The mask comes from a
    linearised search: the divergence's gradient with respect to a start mask tells what each flip is worth, and the
    flips worth most are made. A mask row is rescaled when it is applied; the gradient is that of the binary mask.

    Source: Park, Song, Ji, Lee & Moon, "Adversarial Dropout for Recurrent Neural Networks", AAAI 2019
    (arXiv 1904.09816); for feed-forward networks Park et al., AAAI 2018 (arXiv 1707.03631).

    Args:
        rate: the budget: the share of a mask row's units that may flip, in [0, 1]; at least one unit for any rate
            above 0.
        steps: the rounds of the search, at least 1. All but the last flip ``budget // steps`` units.
        divergence: ``kl``, ``mse_logits``, ``mse_probs``, or ``ce``, the cross-entropy of the adversarial prediction to
            the label.
        direction: ``base_adv`` for ``D(base, adversarial)``, or ``adv_base``.
        start: the mask at which the divergence is linearised first: ``one_drop`` (all ones but for one random zero in
            each row) or ``ones``. With ``ones``, ``kl`` and the squared distances are stationary and nothing is found,
            unless other noise differs between the two passes.
        flips: ``both``, or ``drop`` to only drop units.
        detach_base: whether no gradient flows into the base prediction.
        share_masks: whether the other noise of the network is the same in the two passes.
        keep_start: whether a random drop at the start stays, as the first flip of the budget, instead of being only the
            point of linearisation.

    Raises:
        ValueError: if an argument is outside what is allowed, or the search could never find anything.

    Example:
        >>> from lightning_advdrop.masking import RecordedForward, find_sites
        >>> _ = torch.manual_seed(0)
        >>> lstm, x = torch.nn.LSTM(4, 8), torch.randn(5, 2, 4)
        >>> recorded = RecordedForward(lstm, find_sites(lstm), share_noise=True)
        >>> with recorded.first_run():
        ...     base = lstm(x)[0][-1]
        >>> penalty = AdversarialDropout(rate=0.25).penalty(Passes(recorded, lambda: lstm(x)[0][-1], base))
        >>> bool(penalty.value > 0), penalty.metrics["flip_rate"].item()
        (True, 0.25)
    """

    def __init__(
        self,
        rate: float = 0.05,
        steps: int = 1,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        start: Start = "one_drop",
        flips: Flips = "both",
        detach_base: bool = True,
        share_masks: bool = False,
        keep_start: bool = False,
    ) -> None:
        flip_budget(rate, 1)
        check_divergence(divergence, direction)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}.")
        if start not in get_args(Start):
            raise ValueError(f"start must be one of {', '.join(get_args(Start))}, got {start!r}.")
        if flips not in get_args(Flips):
            raise ValueError(f"flips must be one of {', '.join(get_args(Flips))}, got {flips!r}.")
        if start == "ones" and share_masks and divergence != "ce":
            raise ValueError(
                f"start='ones' with share_masks=True and divergence={divergence!r} compares two equal predictions, "
                "where the gradient is zero; use start='one_drop', share_masks=False or divergence='ce'."
            )
        if keep_start and start != "one_drop":
            raise ValueError(f"keep_start=True needs start='one_drop', got {start!r}: there is no drop to keep.")
        self.rate = rate
        self.steps = steps
        self.divergence: DivergenceName = divergence
        self.direction: Direction = direction
        self.start: Start = start
        self.flips: Flips = flips
        self.detach_base = detach_base
        self.share_masks = share_masks
        self.keep_start = keep_start
        self._warned = False

    @property
    def active(self) -> bool:
        """False with a rate of 0."""
        return self.rate > 0

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """True for the divergence ``ce``."""
        return self.divergence == "ce"

    def penalty(self, passes: Passes) -> Penalty:
        """Searches the adversarial masks and returns the divergence under them.

        Returns:
            The penalty, with the metric ``flip_rate``: the share of units that were flipped, in [0, 1].

        Raises:
            ValueError: if no site took part in the base pass, or ``ce`` was given no target.
        """
        reference = {site: site.ones(size) for site, size in passes.batch_sizes.items()}
        if not reference:
            names = ", ".join(site.name for site in passes.recorded.sites)
            raise ValueError(f"sites: none of {names} took part in the forward pass, so there is nothing to mask.")
        masks = self.search(passes, reference)
        base = passes.base.detach() if self.detach_base else passes.base
        value = self._distance(passes, base, passes.run(_rescaled(masks)))
        flipped = sum((masks[site] != reference[site]).sum() for site in masks)
        units = sum(mask.numel() for mask in masks.values())
        return Penalty(value, {"flip_rate": flipped / units})

    def search(self, passes: Passes, reference: _BinaryMasks) -> _BinaryMasks:
        """The adversarial masks around ``reference``, binary and without a graph.

        Args:
            passes: the base pass and the means to make others.
            reference: the masks from which flips are counted, binary.
        """
        point = dict(reference)
        if self.start == "one_drop":
            point = {
                site: mask * site.sample_one_drop(passes.batch_sizes[site], passes.generator)
                for site, mask in reference.items()
            }
        masks = dict(point if self.keep_start else reference)
        for round_number, budgets in enumerate(self._rounds(masks)):
            gradients = self._mask_gradients(passes, point, warn=round_number == 0)
            for site, budget in budgets.items():
                if budget:
                    masks[site] = adversarial_flips(masks[site], gradients[site], budget, self.flips)
                    point[site] = masks[site]
        return masks

    def _rounds(self, masks: _BinaryMasks) -> Iterator[dict[MaskSite, int]]:
        """How many flips of a row each round may make at each site; rounds in which no site may flip are left out."""
        totals = {site: max(0, flip_budget(self.rate, site.units) - self.keep_start) for site in masks}
        for round_number in range(self.steps):
            last = round_number == self.steps - 1
            shares = {
                site: total - (self.steps - 1) * (total // self.steps) if last else total // self.steps
                for site, total in totals.items()
            }
            if any(shares.values()):
                yield shares

    def _mask_gradients(self, passes: Passes, point: _BinaryMasks, *, warn: bool) -> _BinaryMasks:
        binary = {site: mask.detach().requires_grad_() for site, mask in point.items()}
        value = self._distance(passes, passes.base.detach(), passes.probe(_rescaled(binary)))
        if warn and self.start == "ones" and self.divergence != "ce" and not self._warned and value < _SAME_PREDICTION:
            self._warned = True
            warnings.warn(
                "start='ones' found the same prediction in both passes, where the gradient is zero, so that the flips "
                "are arbitrary; use start='one_drop' in a network without other dropout.",
                stacklevel=2,
            )
        # A site may have run without a part in this prediction; then no flip of its mask is worth anything.
        gradients = torch.autograd.grad(value, list(binary.values()), materialize_grads=True)
        return dict(zip(binary, gradients, strict=True))

    def _distance(self, passes: Passes, base: Tensor, prediction: Tensor) -> Tensor:
        return divergence(self.divergence, self.direction, base, prediction, target=passes.target, weight=passes.weight)


def _rescaled(masks: _BinaryMasks) -> _BinaryMasks:
    return {site: rescale_mask(mask) for site, mask in masks.items()}

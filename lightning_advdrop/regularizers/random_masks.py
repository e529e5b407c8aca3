"""What the regularizers share that compare passes under random masks."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_advdrop.functional import Direction, DivergenceName, check_divergence, divergence, flip_budget
from lightning_advdrop.masking import Masks, MaskSite, Observation, SiteValue
from lightning_advdrop.regularizers.base import Passes, Regularizer


class RandomMaskRegularizer(Regularizer):
    """Compares the base prediction with that of one more pass; masks are random.

    At sites of the kind ``dropout`` the network draws its own masks.

    Args:
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: ``kl``, ``mse_logits``, ``mse_probs``, ``mse`` or ``bernoulli_kl``.
        direction: ``base_adv`` for ``D(base, other)``, or ``adv_base``.
        detach_base: whether no gradient flows into the base prediction.
        share_masks: whether the other noise of the network is the same in the two passes.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Attributes:
        masks_base: whether the base pass runs under a random mask, too.
    """

    masks_base: bool = False

    def __init__(
        self,
        rate: float,
        divergence: DivergenceName,
        direction: Direction = "base_adv",
        detach_base: bool = False,
        share_masks: bool = False,
    ) -> None:
        flip_budget(rate, 1)
        check_divergence(divergence, direction)
        if divergence == "ce":
            raise ValueError("divergence must compare two predictions, got 'ce', which looks at one of them only.")
        self.rate = rate
        self.divergence: DivergenceName = divergence
        self.direction: Direction = direction
        self.detach_base = detach_base
        self.share_masks = share_masks

    def random_mask(self, seen: Observation, generator: torch.Generator | None) -> Tensor | None:
        """A random mask for a site, rescaled; None where the network draws its own."""
        if seen.site.kind == "dropout":
            return None
        rate = self.rate if seen.site.rate is None else seen.site.rate
        return seen.site.rescale(seen.sample(rate, generator))

    def random_masks(self, passes: Passes) -> Masks:
        """A random mask for each site of the base pass."""
        masks: dict[MaskSite, SiteValue] = {}
        for site, seen in passes.observed.items():
            mask = self.random_mask(seen, passes.generator)
            if mask is not None:
                masks[site] = mask
        return masks

    def first_mask(self, seen: Observation, generator: torch.Generator) -> Tensor | None:
        """A random mask, where the base pass has one."""
        return self.random_mask(seen, generator) if self.masks_base else None

    def distance(self, passes: Passes, other: Tensor) -> Tensor:
        """The divergence between the base prediction and another one."""
        base = passes.base.detach() if self.detach_base else passes.base
        return divergence(self.divergence, self.direction, base, other, sample_weight=passes.weight)

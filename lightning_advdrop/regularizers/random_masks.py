"""The base class of regularizers that compare passes under random masks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_advdrop.functional import Direction
from lightning_advdrop.masking import Masks, MaskSite, Observation, SiteValue
from lightning_advdrop.regularizers.base import Regularizer
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import checked, compares_two, fixed, in_unit_interval, one_of
from lightning_advdrop.regularizers.passes import Passes


@dataclass(eq=False)
class RandomMaskRegularizer(Regularizer):
    """Compare the base prediction with that of one more pass under random masks.

    At sites of the kind ``dropout`` the network draws its own masks.

    Args:
        rate: the probability of dropping a unit, in [0, 1]. A site's own rate takes precedence.
        divergence: ``auto`` to choose by the model's loss or the labels (see `decide`), ``kl``, ``mse_logits``,
            ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several labels).
        direction: ``base_adv`` for ``D(base, other)``, or ``adv_base`` for ``D(other, base)``.
        detach_base: whether to stop the penalty's gradient at the base prediction.
        share_masks: whether all other noise of the network is the same in the two passes.

    Raises:
        ValueError: if ``rate`` is not in [0, 1], or ``divergence`` or ``direction`` is not in the list.

    Attributes:
        masks_base: whether the base pass runs under a random mask, too.
    """

    rate: float = checked(0.05, in_unit_interval)
    divergence: DivergenceChoice = checked("auto", compares_two)
    direction: Direction = checked("base_adv", one_of(Direction))
    detach_base: bool = False
    share_masks: bool = False

    masks_base = False

    def random_mask(self, seen: Observation, generator: torch.Generator | None) -> Tensor | None:
        """Draw a mask for a site, rescaled; None where the network draws its own."""
        if seen.site.kind == "dropout":
            return None
        rate = self.rate if seen.site.rate is None else seen.site.rate
        return seen.site.rescale(seen.sample(rate, generator))

    def random_masks(self, passes: Passes) -> Masks:
        """Draw a mask for each site of the base pass."""
        masks: dict[MaskSite, SiteValue] = {}
        for site, seen in passes.observed.items():
            mask = self.random_mask(seen, passes.generator)
            if mask is not None:
                masks[site] = mask
        return masks

    def first_mask(self, seen: Observation, generator: torch.Generator) -> Tensor | None:
        """Draw the base pass's mask, where it has one."""
        return self.random_mask(seen, generator) if self.masks_base else None

    def distance(self, passes: Passes, other: Tensor) -> Tensor:
        """Compute the divergence between the base prediction and another one."""
        return passes.distance(other, self.divergence, self.direction, detach_base=self.detach_base)


@dataclass(eq=False)
class TrainsOnBoth(RandomMaskRegularizer):
    """Compare two passes under random masks, and train both on the labels.

    Args:
        both_losses: whether the second pass has a supervised loss, too: the model's own, where that is known, as in a
            training step; else the cross-entropy, or the mean squared error of numbers, for which labels must be given.
    """

    share_masks: bool = fixed(False)
    both_losses: bool = True

    masks_base = True

    def second(self, passes: Passes) -> tuple[Tensor, Tensor | None]:
        """Run the second pass.

        Returns:
            Its prediction, and with ``both_losses`` what the loss gets for it.

        Raises:
            ValueError: if ``both_losses`` is True and neither the model's loss nor the labels are known.
        """
        masks = self.random_masks(passes)
        return passes.run_with_loss(masks, self.divergence, both=self.both_losses, mean=self.halves_loss)

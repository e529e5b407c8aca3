"""Forms of adversarial dropout that the package does not have, for the study."""

from __future__ import annotations

from typing import Any, get_args

from lightning_advdrop import RegularizerCallback
from lightning_advdrop.functional import Direction
from lightning_advdrop.regularizers import AdversarialDropout, Passes
from lightning_advdrop.regularizers.base_scores import BinaryMasks
from lightning_advdrop.regularizers.mask_search import rescaled
from lightning_advdrop.regularizers.penalty import Penalty
from tests.benchmarks.rows_quality import RandomDrops


class WorstOfTwo(AdversarialDropout):
    """R-Drop, whose second random mask also drops what raises the loss of the first pass most."""

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the symmetric divergence, and the loss of the second pass."""
        reference = self._references(passes)
        found = self.find_masks(passes, reference)
        masks: BinaryMasks = {}
        for site, mask in reference.items():
            seen = passes.observed[site]
            fresh = seen.sample(self.start_rate, passes.generator, per_step=self.per_step)
            masks[site] = fresh * (found[site] == mask)
        acting = rescaled(masks, passes.observed, self.scale)
        other, loss = passes.run_with_loss(acting, self.divergence, both=self.both_losses, mean=True)
        one, two = (passes.distance(other, self.divergence, direction) for direction in get_args(Direction))
        return Penalty((one + two) / 2, {}, loss, masks)


class RandomDropsCallback(RegularizerCallback):
    """The control: further drops at random instead of the worst ones.

    Args:
        weight: of the penalty.
        arguments: of the regularizer.
    """

    def __init__(self, weight: float = 1.0, **arguments: Any) -> None:
        super().__init__(RandomDrops(**arguments), weight=weight)


class WorstOfTwoCallback(RegularizerCallback):
    """Trains with `WorstOfTwo`.

    Args:
        weight: of the penalty.
        arguments: of the regularizer.
    """

    def __init__(self, weight: float = 1.0, **arguments: Any) -> None:
        super().__init__(WorstOfTwo(**arguments), weight=weight)

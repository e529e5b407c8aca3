"""Expectation-linear dropout: training under a random mask, close to the network without one."""

from __future__ import annotations

from lightning_advdrop.functional import Direction, DivergenceName
from lightning_advdrop.regularizers.base import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


class ExpectationLinearDropout(RandomMaskRegularizer):
    """Penalises the distance between dropout's training phase and its inference phase.

    The base pass runs under a random mask; the other one is the network as it predicts, without any dropout. The
    expectation over masks is estimated by one draw.

    Source: Ma et al., "Dropout with Expectation-linear Regularization", ICLR 2017 (arXiv 1609.08017), section 4.

    Args:
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `RandomMaskRegularizer`.
        direction: see there; the base prediction is the one under the mask.
        detach_base: see there.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> ExpectationLinearDropout(rate=0.1).divergence
        'mse_probs'
    """

    masks_base = True

    def __init__(
        self,
        rate: float = 0.05,
        divergence: DivergenceName = "mse_probs",
        direction: Direction = "base_adv",
        detach_base: bool = False,
    ) -> None:
        super().__init__(rate, divergence, direction, detach_base)

    def penalty(self, passes: Passes) -> Penalty:
        """The divergence between the predictions with and without dropout.

        Raises:
            ValueError: if no site took part in the base pass.
        """
        passes.check_sites()
        return Penalty(self.distance(passes, passes.run({}, dropout=False)))

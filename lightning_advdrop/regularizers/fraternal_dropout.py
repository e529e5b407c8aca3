"""Fraternal dropout: two random masks, one prediction."""

from __future__ import annotations

from lightning_advdrop.functional import Direction, DivergenceName
from lightning_advdrop.regularizers.base import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


class FraternalDropout(RandomMaskRegularizer):
    """Penalises the squared difference of the logits under two random masks.

    The base pass runs under the first mask, the other pass under a second one, with all other dropout of the network
    drawn anew. In the paper, the penalty's weight is called kappa.

    Source: Zolna, Arpit, Suhubdy & Bengio, "Fraternal Dropout", ICLR 2018 (arXiv 1711.00066), equation 4.

    Args:
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `RandomMaskRegularizer`.
        direction: see there.
        detach_base: see there.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> FraternalDropout(rate=0.1).divergence
        'mse_logits'
    """

    masks_base = True

    def __init__(
        self,
        rate: float = 0.05,
        divergence: DivergenceName = "mse_logits",
        direction: Direction = "base_adv",
        detach_base: bool = False,
    ) -> None:
        super().__init__(rate, divergence, direction, detach_base)

    def penalty(self, passes: Passes) -> Penalty:
        """The divergence between the predictions under the two masks.

        Raises:
            ValueError: if no site took part in the base pass.
        """
        return Penalty(self.distance(passes, passes.run(self.random_masks(passes))))

"""Variational dropout: training under random masks, without a penalty."""

from __future__ import annotations

from lightning_advdrop.regularizers.base import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


class VariationalDropout(RandomMaskRegularizer):
    """Random masks in the base pass: variational dropout at recurrent sites, DropConnect at weights.

    What the other methods are compared with; the penalty is 0, and no further pass is made.

    Source: Gal & Ghahramani (2016, arXiv 1512.05287); Wan et al. (2013) for DropConnect.

    Args:
        rate: the probability with which a unit is dropped, in [0, 1].

    Raises:
        ValueError: if the rate is outside [0, 1].

    Example:
        >>> VariationalDropout(rate=0.25).rate
        0.25
    """

    masks_base = True

    def __init__(self, rate: float = 0.05) -> None:
        super().__init__(rate, "mse_logits")

    def penalty(self, passes: Passes) -> Penalty:
        """No penalty: 0.

        Raises:
            ValueError: if no site took part in the base pass.
        """
        passes.check_sites()
        return Penalty(passes.base.new_zeros(()))

"""R-Drop: two random masks, the supervised loss on both."""

from __future__ import annotations

from lightning_advdrop.functional import cross_entropy_to_label, kl_divergence
from lightning_advdrop.regularizers.base import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


class RDrop(RandomMaskRegularizer):
    """Penalises the symmetric KL divergence of two passes under random masks, and trains both on the labels.

    The penalty is the mean of the KL divergences in both directions; in the paper, its weight is called alpha. The
    cross-entropy of the second pass is added to the loss as it is.

    Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021 (arXiv 2106.14448),
    equations 1 to 3.

    Args:
        rate: the probability with which a unit is dropped, in [0, 1].
        both_losses: whether the second pass has a supervised loss, too; without it no labels are needed.

    Raises:
        ValueError: if the rate is outside [0, 1].

    Example:
        >>> RDrop(rate=0.1).needs_target
        True
    """

    masks_base = True

    def __init__(self, rate: float = 0.05, both_losses: bool = True) -> None:
        super().__init__(rate, "kl")
        self.needs_target = both_losses

    def penalty(self, passes: Passes) -> Penalty:
        """The symmetric divergence, and the second pass's cross-entropy beside it.

        Raises:
            ValueError: if no site took part in the base pass, or there are no labels where they are needed.
        """
        other = passes.run(self.random_masks(passes))
        there, back = (kl_divergence(*pair, passes.weight) for pair in ((passes.base, other), (other, passes.base)))
        if not self.needs_target:
            return Penalty((there + back) / 2)
        if passes.target is None:
            raise ValueError("target must be given for both_losses=True, got None.")
        return Penalty((there + back) / 2, supervised=cross_entropy_to_label(other, passes.target, passes.weight))

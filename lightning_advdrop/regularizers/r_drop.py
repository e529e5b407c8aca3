"""R-Drop: two random masks, the supervised loss on both."""

from dataclasses import dataclass

from lightning_advdrop.functional import Direction, DivergenceName, cross_entropy_to_label, kl_divergence
from lightning_advdrop.regularizers.fields import fixed
from lightning_advdrop.regularizers.passes import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@dataclass(eq=False)
class RDrop(RandomMaskRegularizer):
    """Penalise the symmetric KL divergence of two passes under random masks, and train both on the labels.

    The penalty is the mean of the KL divergences in both directions; the paper calls its weight alpha. The second
    pass's cross-entropy is added to the loss without a weight.

    Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021 (arXiv 2106.14448),
    equations 1 to 3.

    Args:
        rate: the probability of dropping a unit, in [0, 1].
        both_losses: whether the second pass has a supervised loss, too; without it no labels are needed.

    Raises:
        ValueError: if ``rate`` is not in [0, 1].

    Example:
        >>> RDrop(rate=0.1).needs_target
        True
    """

    divergence: DivergenceName = fixed("kl")
    direction: Direction = fixed("base_adv")
    detach_base: bool = fixed(False)
    share_masks: bool = fixed(False)
    both_losses: bool = True

    masks_base = True

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """True with ``both_losses``."""
        return self.both_losses

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the symmetric divergence, and the second pass's cross-entropy.

        Raises:
            ValueError: if no site took part in the base pass, or ``both_losses`` is True and there are no labels.
        """
        other, weight = passes.run(self.random_masks(passes)), passes.sample_weight
        there, back = (kl_divergence(*pair, weight) for pair in ((passes.base, other), (other, passes.base)))
        if not self.both_losses:
            return Penalty((there + back) / 2)
        if passes.target is None:
            raise ValueError("target must be given for both_losses=True, got None.")
        return Penalty((there + back) / 2, supervised=cross_entropy_to_label(other, passes.target, weight))

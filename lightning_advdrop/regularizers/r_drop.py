"""R-Drop: two random masks, the supervised loss on both."""

from dataclasses import dataclass

from lightning_advdrop.functional import Direction, DivergenceName
from lightning_advdrop.regularizers.fields import documented, fixed
from lightning_advdrop.regularizers.passes import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@documented
@dataclass(eq=False)
class RDrop(RandomMaskRegularizer):
    """Penalise the symmetric KL divergence of two passes under random masks, and train both on the labels.

    The penalty is the mean of the KL divergences in both directions; the paper calls its weight alpha. The second
    pass's cross-entropy is added to the loss without a weight.

    Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021 (arXiv 2106.14448),
    equations 1 to 3.

    Args:
        both_losses: whether the second pass has a supervised loss, too; without it no labels are needed.

    Example:
        >>> RDrop(rate=0.1).needs_target
        True
    """

    divergence: DivergenceName = fixed("kl")
    direction: Direction = fixed("base_adv")
    detach_base: bool = fixed(False)
    share_masks: bool = fixed(False)
    both_losses: bool = True

    log_prefix = "r_drop"
    masks_base = True

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """True with ``both_losses``."""
        return self.both_losses

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the symmetric divergence, and the second pass's cross-entropy.

        Raises:
            ValueError: if ``both_losses`` is True and there are no labels.
        """
        other = passes.run(self.random_masks(passes))
        value = (passes.distance(other, "kl", "base_adv") + passes.distance(other, "kl", "adv_base")) / 2
        return Penalty(value, supervised=self.loss(passes, other) if self.both_losses else None)

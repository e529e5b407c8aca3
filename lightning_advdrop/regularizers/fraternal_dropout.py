"""Fraternal dropout: two random masks, one prediction."""

from dataclasses import dataclass

from lightning_advdrop.functional import DivergenceName
from lightning_advdrop.regularizers.fields import checked, compares_two, documented, fixed
from lightning_advdrop.regularizers.passes import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@documented
@dataclass(eq=False)
class FraternalDropout(RandomMaskRegularizer):
    """Train on the labels under two random masks, and penalise the squared difference of the logits.

    The base pass runs under the first mask, the other pass under the second, and all other dropout of the network is
    drawn anew. The supervised loss is the mean of both passes' cross-entropies. The paper calls the penalty's weight
    kappa.

    Source: Zolna, Arpit, Suhubdy & Bengio, "Fraternal Dropout", ICLR 2018 (arXiv 1711.00066), equation 4.

    Args:
        both_losses: whether both passes have a supervised loss, for which the model's own loss must be the
            cross-entropy: half of the difference of the two is added to it. With False the first pass's loss is the
            only one, no labels are needed, and any loss will do. The paper compares with this form as the Pi-model.

    Example:
        >>> FraternalDropout(rate=0.1).divergence
        'mse_logits'
    """

    divergence: DivergenceName = checked("mse_logits", compares_two)
    share_masks: bool = fixed(False)
    both_losses: bool = True

    log_prefix = "fraternal_dropout"
    masks_base = True

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """True with ``both_losses``."""
        return self.both_losses

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the squared difference, and what makes the supervised loss the mean of both passes'.

        Raises:
            ValueError: if ``both_losses`` is True and there are no labels.
        """
        other = passes.run(self.random_masks(passes))
        value = self.distance(passes, other)
        if not self.both_losses:
            return Penalty(value)
        # The first loss is in the model's own already, with a weight of 1.
        return Penalty(value, supervised=(self.loss(passes, other) - self.loss(passes, passes.base)) / 2)

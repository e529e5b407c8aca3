"""Fraternal dropout: two random masks, one prediction."""

from dataclasses import dataclass

from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import checked, compares_two, documented
from lightning_advdrop.regularizers.passes import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import TrainsOnBoth


@documented
@dataclass(eq=False)
class FraternalDropout(TrainsOnBoth):
    """Train on the labels under two random masks, and penalise the squared difference of the logits.

    The base pass runs under the first mask, the other pass under the second, and all other dropout of the network is
    drawn anew. The supervised loss is the mean of both passes'. The paper calls the penalty's weight kappa.

    Source: Zolna, Arpit, Suhubdy & Bengio, "Fraternal Dropout", ICLR 2018 (arXiv 1711.00066), equation 4.

    Args:
        both_losses: whether both passes have a supervised loss. The first is the model's own; where that is not known,
            as in a call of the regularizer, it must be the same as the second, which is the cross-entropy, or the mean
            squared error of numbers. With False the first loss is the only one, no labels are needed, and any loss will
            do. The paper compares with this form as the Pi-model.

    Example:
        >>> FraternalDropout(rate=0.1).divergence
        'mse_logits'
    """

    divergence: DivergenceChoice = checked("mse_logits", compares_two)

    log_prefix = "fraternal_dropout"

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the squared difference, and what makes the supervised loss the mean of both passes'.

        Raises:
            ValueError: if ``both_losses`` is True and there are no labels.
        """
        other = self.second(passes)
        value = self.distance(passes, other)
        if not self.both_losses:
            return Penalty(value)
        comparison = passes.compared(self.divergence)
        first = passes.loss_to_target(passes.base, comparison) if passes.loss is None else passes.loss
        second = passes.loss_to_target(other, comparison)
        return Penalty(value, supervised=(second - first) / 2)  # the first is in the total already, with weight 1

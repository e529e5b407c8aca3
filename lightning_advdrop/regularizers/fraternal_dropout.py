"""Fraternal dropout: two random masks, one prediction."""

from dataclasses import dataclass

from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import checked, compares_two, documented
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.random_masks import TrainsOnBoth


@documented
@dataclass(eq=False)
class FraternalDropout(TrainsOnBoth):
    """Train on the labels under two random masks, and penalise the squared difference of the logits.

    The base pass runs under the first mask, the other pass under the second, and all other dropout of the network is
    drawn anew. The supervised loss is the mean of both passes'. The paper calls the penalty's weight kappa.

    Source: Zolna, Arpit, Suhubdy & Bengio, "Fraternal Dropout", ICLR 2018 (arXiv 1711.00066), equation 4.

    Args:
        both_losses: whether both passes have a supervised loss: the model's own; where that is not known, as in a call
            of the regularizer, the cross-entropy, or the mean squared error of numbers, which the model must be trained
            by then. With False the first loss is the only one. The paper compares with this form as the Pi-model.

    Example:
        >>> FraternalDropout(rate=0.1).divergence
        'mse_logits'
    """

    divergence: DivergenceChoice = checked("mse_logits", compares_two)

    log_prefix = "fraternal_dropout"
    halves_loss = True

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the squared difference, and what makes the supervised loss the mean of both passes'.

        Raises:
            ValueError: if ``both_losses`` is True and neither the model's loss nor the labels are known.
        """
        other, supervised = self.second(passes)
        return Penalty(self.distance(passes, other), supervised=supervised)

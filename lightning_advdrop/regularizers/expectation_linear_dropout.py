"""Expectation-linear dropout: training under a random mask, close to the network without one."""

from dataclasses import dataclass

from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import checked, compares_two, documented, fixed
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@documented
@dataclass(eq=False)
class ExpectationLinearDropout(RandomMaskRegularizer):
    """Penalise the distance between dropout's training phase and its inference phase.

    The base pass runs under a random mask, the other pass without any dropout, as the network predicts. One draw
    estimates the expectation over masks.

    Source: Ma et al., "Dropout with Expectation-linear Regularization", ICLR 2017 (arXiv 1609.08017), section 4.

    Example:
        >>> ExpectationLinearDropout(rate=0.1).divergence
        'mse_probs'
    """

    divergence: DivergenceChoice = checked("mse_probs", compares_two)
    share_masks: bool = fixed(False)

    log_prefix = "expectation_linear_dropout"
    masks_base = True

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the divergence between the predictions with and without dropout."""
        passes.check_sites()
        return Penalty(self.distance(passes, passes.run({}, dropout=False)))

"""Pseudo-ensemble agreement and the Pi-model: the network against itself under one random mask."""

from dataclasses import dataclass

from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import checked, compares_two, documented, fixed
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@documented
@dataclass(eq=False)
class PseudoEnsemble(RandomMaskRegularizer):
    """Penalise the divergence between the base prediction, without a mask, and the one under a random mask.

    Source: Bachman, Alsharif & Precup, "Learning with Pseudo-Ensembles", NeurIPS 2014 (arXiv 1412.4864).

    Example:
        >>> PseudoEnsemble(rate=0.1).divergence
        'auto'
    """

    log_prefix = "pseudo_ensemble"

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the divergence between the base prediction and that of a pass under random masks."""
        return Penalty(self.distance(passes, passes.run(self.random_masks(passes))))


@documented
@dataclass(eq=False)
class PiModel(PseudoEnsemble):
    """Penalise the squared difference of the probabilities with and without a random mask.

    Both passes draw the network's own dropout, as in the paper; the site's mask acts in the second pass only.

    Source: Laine & Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017 (arXiv 1610.02242), algorithm 1.

    Example:
        >>> PiModel(rate=0.1).divergence
        'mse_probs'
    """

    divergence: DivergenceChoice = checked("mse_probs", compares_two)
    share_masks: bool = fixed(False)

    log_prefix = "pi_model"

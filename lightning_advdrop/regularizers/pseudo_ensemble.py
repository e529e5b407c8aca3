"""Pseudo-ensemble agreement and the Pi-model: the network against itself under one random mask."""

from dataclasses import dataclass

from lightning_advdrop.functional import DivergenceName
from lightning_advdrop.regularizers.fields import checked, compares_two, fixed
from lightning_advdrop.regularizers.passes import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@dataclass(eq=False)
class PseudoEnsemble(RandomMaskRegularizer):
    """Penalise the divergence between the base prediction, without a mask, and the one under a random mask.

    Source: Bachman, Alsharif & Precup, "Learning with Pseudo-Ensembles", NeurIPS 2014 (arXiv 1412.4864).

    Args:
        rate: the probability of dropping a unit, in [0, 1].
        divergence: ``kl``, ``mse_logits``, ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several labels).
        direction: ``base_adv`` for ``D(base, masked)``, or ``adv_base`` for ``D(masked, base)``.
        detach_base: whether to stop the penalty's gradient at the base prediction.
        share_masks: whether all other noise of the network is the same in the two passes.

    Raises:
        ValueError: if ``rate`` is not in [0, 1], or ``divergence`` or ``direction`` is not in the list.

    Example:
        >>> PseudoEnsemble(rate=0.1).divergence
        'kl'
    """

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the divergence between the base prediction and that under a random mask.

        Raises:
            ValueError: if no site took part in the base pass.
        """
        return Penalty(self.distance(passes, passes.run(self.random_masks(passes))))


@dataclass(eq=False)
class PiModel(PseudoEnsemble):
    """Penalise the squared difference of the probabilities with and without a random mask.

    Both passes draw the network's own dropout, as in the paper; the site's mask acts in the second pass only.

    Source: Laine & Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017 (arXiv 1610.02242), algorithm 1.

    Args:
        rate: the probability of dropping a unit, in [0, 1].
        divergence: ``kl``, ``mse_logits``, ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several labels).
        direction: ``base_adv`` for ``D(base, masked)``, or ``adv_base`` for ``D(masked, base)``.
        detach_base: whether to stop the penalty's gradient at the base prediction.

    Raises:
        ValueError: if ``rate`` is not in [0, 1], or ``divergence`` or ``direction`` is not in the list.

    Example:
        >>> PiModel(rate=0.1).divergence
        'mse_probs'
    """

    divergence: DivergenceName = checked("mse_probs", compares_two)
    share_masks: bool = fixed(False)

"""Fraternal dropout: two random masks, one prediction."""

from dataclasses import dataclass

from lightning_advdrop.functional import DivergenceName
from lightning_advdrop.regularizers.fields import checked, compares_two, fixed
from lightning_advdrop.regularizers.passes import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@dataclass(eq=False)
class FraternalDropout(RandomMaskRegularizer):
    """Penalise the squared difference of the logits under two random masks.

    The base pass runs under the first mask, the other pass under the second, and all other dropout of the network is
    drawn anew. The paper calls the penalty's weight kappa.

    Source: Zolna, Arpit, Suhubdy & Bengio, "Fraternal Dropout", ICLR 2018 (arXiv 1711.00066), equation 4.

    Args:
        rate: the probability of dropping a unit, in [0, 1].
        divergence: ``kl``, ``mse_logits``, ``mse_probs``, ``mse`` (regression) or ``bernoulli_kl`` (several labels).
        direction: ``base_adv`` for ``D(base, other)``, or ``adv_base`` for ``D(other, base)``.
        detach_base: whether to stop the penalty's gradient at the base prediction.

    Raises:
        ValueError: if ``rate`` is not in [0, 1], or ``divergence`` or ``direction`` is not in the list.

    Example:
        >>> FraternalDropout(rate=0.1).divergence
        'mse_logits'
    """

    divergence: DivergenceName = checked("mse_logits", compares_two)
    share_masks: bool = fixed(False)

    masks_base = True

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the divergence between the predictions under the two masks.

        Raises:
            ValueError: if no site took part in the base pass.
        """
        return Penalty(self.distance(passes, passes.run(self.random_masks(passes))))

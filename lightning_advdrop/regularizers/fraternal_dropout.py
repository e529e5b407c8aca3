"""Fraternal dropout: two random masks, one prediction."""

from dataclasses import dataclass

from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import checked, compares_two, documented, fixed
from lightning_advdrop.regularizers.pseudo_ensemble import PseudoEnsemble


@documented
@dataclass(eq=False)
class FraternalDropout(PseudoEnsemble):
    """Penalise the squared difference of the logits under two random masks.

    The base pass runs under the first mask, the other pass under the second, and all other dropout of the network is
    drawn anew. The paper calls the penalty's weight kappa.

    Source: Zolna, Arpit, Suhubdy & Bengio, "Fraternal Dropout", ICLR 2018 (arXiv 1711.00066), equation 4.

    Example:
        >>> FraternalDropout(rate=0.1).divergence
        'mse_logits'
    """

    divergence: DivergenceChoice = checked("mse_logits", compares_two)
    share_masks: bool = fixed(False)

    log_prefix = "fraternal_dropout"
    masks_base = True

"""Variational dropout: training under random masks, without a penalty."""

from dataclasses import dataclass

from lightning_advdrop.functional import Direction
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import documented, fixed
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


@documented
@dataclass(eq=False)
class VariationalDropout(RandomMaskRegularizer):
    """Train under random masks: variational dropout at recurrent sites, DropConnect at weights.

    The baseline of the other methods: the penalty is 0, and there is no further pass.

    Source: Gal & Ghahramani (2016, arXiv 1512.05287); Wan et al. (2013) for DropConnect.

    Example:
        >>> VariationalDropout(rate=0.25).rate
        0.25
    """

    divergence: DivergenceChoice = fixed("mse_logits")
    direction: Direction = fixed("base_adv")
    detach_base: bool = fixed(False)
    share_masks: bool = fixed(False)

    log_prefix = "variational_dropout"
    compares = False
    masks_base = True

    def penalty(self, passes: Passes) -> Penalty:
        """Return a penalty of 0."""
        passes.check_sites()
        return Penalty(passes.base.new_zeros(()))

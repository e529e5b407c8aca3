"""R-Drop: two random masks, the supervised loss on both."""

from dataclasses import dataclass
from typing import Literal, get_args

from lightning_advdrop.functional import Direction
from lightning_advdrop.regularizers.comparison import DivergenceChoice
from lightning_advdrop.regularizers.fields import checked, compares_two, documented, fixed, one_of
from lightning_advdrop.regularizers.passes import Passes
from lightning_advdrop.regularizers.penalty import Penalty
from lightning_advdrop.regularizers.random_masks import TrainsOnBoth

RDropDivergence = Literal["auto", "kl", "bernoulli_kl", "mse"]


def _symmetric(name: str, value: str) -> None:
    compares_two(name, value, remedy="; use AdversarialTraining")
    one_of(RDropDivergence)(name, value)


@documented
@dataclass(eq=False)
class RDrop(TrainsOnBoth):
    """Penalise the symmetric KL divergence of two passes under random masks, and train both on the labels.

    The penalty is the mean of the KL divergences in both directions; the paper calls its weight alpha. The second
    pass's loss is added to the first one's without a weight. Numbers (regression) are compared by squared differences.

    Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021 (arXiv 2106.14448),
    equations 1 to 3.

    Args:
        divergence: ``auto`` to choose by the model's loss or the labels (see `decide`), ``kl`` for classes,
            ``bernoulli_kl`` for several labels, ``mse`` for numbers.

    Example:
        >>> RDrop(rate=0.1).both_losses
        True
    """

    divergence: DivergenceChoice = checked("auto", _symmetric)
    direction: Direction = fixed("base_adv")
    detach_base: bool = fixed(False)

    log_prefix = "r_drop"

    def penalty(self, passes: Passes) -> Penalty:
        """Compute the symmetric divergence, and the second pass's loss.

        Raises:
            ValueError: if ``both_losses`` is True and neither the model's loss nor the labels are known.
        """
        other, loss = self.second(passes)
        one, two = (passes.distance(other, self.divergence, direction) for direction in get_args(Direction))
        return Penalty((one + two) / 2, supervised=loss)

"""Pseudo-ensemble agreement and the Pi-model: the network against itself under one random mask."""

from __future__ import annotations

from lightning_advdrop.functional import Direction, DivergenceName
from lightning_advdrop.regularizers.base import Passes, Penalty
from lightning_advdrop.regularizers.random_masks import RandomMaskRegularizer


class PseudoEnsemble(RandomMaskRegularizer):
    """Penalises the divergence between the base prediction, without a mask, and the one under a random mask.

    Source: Bachman, Alsharif & Precup, "Learning with Pseudo-Ensembles", NeurIPS 2014 (arXiv 1412.4864).

    Args:
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `RandomMaskRegularizer`.
        direction: see there.
        detach_base: see there.
        share_masks: see there.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> PseudoEnsemble(rate=0.1).divergence
        'kl'
    """

    def __init__(
        self,
        rate: float = 0.05,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        detach_base: bool = False,
        share_masks: bool = False,
    ) -> None:
        super().__init__(rate, divergence, direction, detach_base, share_masks)

    def penalty(self, passes: Passes) -> Penalty:
        """The divergence between the two predictions.

        Raises:
            ValueError: if no site took part in the base pass.
        """
        return Penalty(self.distance(passes, passes.run(self.random_masks(passes))))


class PiModel(PseudoEnsemble):
    """The same with the squared difference of probabilities.

    Source: Laine & Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017 (arXiv 1610.02242), algorithm 1.
    There, both passes draw the network's dropout, as they do here; the site's mask is in the second pass only.

    Args:
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `RandomMaskRegularizer`.
        direction: see there.
        detach_base: see there.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> PiModel(rate=0.1).divergence
        'mse_probs'
    """

    def __init__(
        self,
        rate: float = 0.05,
        divergence: DivergenceName = "mse_probs",
        direction: Direction = "base_adv",
        detach_base: bool = False,
    ) -> None:
        super().__init__(rate, divergence, direction, detach_base)

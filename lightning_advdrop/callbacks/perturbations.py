"""Callbacks of the regularizers that perturb what enters a network."""

from __future__ import annotations

from typing import Any

from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.functional import Direction, DivergenceName
from lightning_advdrop.masking import SiteSpecs
from lightning_advdrop.regularizers import AdversarialTraining, RandomPerturbation, VirtualAdversarialTraining


class RandomPerturbationCallback(RegularizerCallback):
    """Random perturbation of embeddings or of recurrent layers' inputs; see `RandomPerturbation`. One further pass.

    Args:
        sites: ``embedding``, ``input``, or these with a path, see `lightning_advdrop.masking.find_sites`.
        epsilon: the perturbation's L2 norm for each example, above 0.
        divergence: see `RandomPerturbation`.
        direction: see there.
        detach_base: see there.
        batch_dim: see there.
        share_masks: see there.
        kwargs: see `RegularizerCallback`.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> RandomPerturbationCallback(sites="embedding", epsilon=5.0).regularizer.epsilon
        5.0
    """

    log_prefix = "random_perturbation"
    regularizer: RandomPerturbation

    def __init__(
        self,
        sites: SiteSpecs = "embedding",
        epsilon: float = 5.0,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        detach_base: bool = True,
        batch_dim: int = 0,
        share_masks: bool = True,
        **kwargs: Any,
    ) -> None:
        regularizer = RandomPerturbation(epsilon, divergence, direction, detach_base, batch_dim, share_masks)
        super().__init__(regularizer, sites, **kwargs)


class VirtualAdversarialCallback(RegularizerCallback):
    """Virtual adversarial training on embeddings or recurrent layers' inputs; see `VirtualAdversarialTraining`.

    One further pass, and one for each power iteration.

    Args:
        sites: ``embedding``, ``input``, or these with a path, see `lightning_advdrop.masking.find_sites`.
        epsilon: the perturbation's L2 norm for each example, above 0.
        finite_difference: how far from the base pass the gradient is taken, above 0.
        power_iterations: at least 1.
        divergence: see `VirtualAdversarialTraining`.
        direction: see there.
        detach_base: see there.
        batch_dim: see there.
        share_masks: see there.
        kwargs: see `RegularizerCallback`.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> VirtualAdversarialCallback(sites="embedding", epsilon=5.0).regularizer.power_iterations
        1
    """

    log_prefix = "virtual_adversarial"
    regularizer: VirtualAdversarialTraining

    def __init__(
        self,
        sites: SiteSpecs = "embedding",
        epsilon: float = 5.0,
        finite_difference: float = 0.1,
        power_iterations: int = 1,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        detach_base: bool = True,
        batch_dim: int = 0,
        share_masks: bool = True,
        **kwargs: Any,
    ) -> None:
        regularizer = VirtualAdversarialTraining(
            epsilon, finite_difference, power_iterations, divergence, direction, detach_base, batch_dim, share_masks
        )
        super().__init__(regularizer, sites, **kwargs)


class AdversarialTrainingCallback(RegularizerCallback):
    """Adversarial training on embeddings or recurrent layers' inputs; see `AdversarialTraining`. One further pass.

    Args:
        sites: ``embedding``, ``input``, or these with a path, see `lightning_advdrop.masking.find_sites`.
        epsilon: the perturbation's L2 norm for each example, above 0.
        batch_dim: see `AdversarialTraining`.
        share_masks: see there.
        kwargs: see `RegularizerCallback`.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> AdversarialTrainingCallback(sites="embedding", epsilon=5.0).regularizer.epsilon
        5.0
    """

    log_prefix = "adversarial_training"
    regularizer: AdversarialTraining

    def __init__(
        self,
        sites: SiteSpecs = "embedding",
        epsilon: float = 5.0,
        batch_dim: int = 0,
        share_masks: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(AdversarialTraining(epsilon, batch_dim, share_masks), sites, **kwargs)

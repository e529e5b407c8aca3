"""Callbacks of the regularizers that compare passes under random masks."""

from __future__ import annotations

from typing import Any

from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.functional import Direction, DivergenceName
from lightning_advdrop.masking import SiteSpecs
from lightning_advdrop.regularizers import (
    ExpectationLinearDropout,
    FraternalDropout,
    PiModel,
    PseudoEnsemble,
    RDrop,
    VariationalDropout,
)


class VariationalDropoutCallback(RegularizerCallback):
    """Trains under random masks at the sites, without a penalty; see `VariationalDropout`. No further pass.

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the probability with which a unit is dropped, in [0, 1].
        kwargs: see `RegularizerCallback`. A ``weight`` above 0 changes nothing; with 0 there are no masks.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> VariationalDropoutCallback(sites="recurrent", rate=0.25).regularizer.rate
        0.25
    """

    log_prefix = "variational_dropout"
    regularizer: VariationalDropout

    def __init__(self, sites: SiteSpecs = "recurrent", rate: float = 0.05, **kwargs: Any) -> None:
        super().__init__(VariationalDropout(rate), sites, **kwargs)


class FraternalDropoutCallback(RegularizerCallback):
    """Fraternal dropout: the squared difference of the logits under two random masks; see `FraternalDropout`.

    One further pass.

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `FraternalDropout`.
        direction: see there.
        detach_base: see there.
        kwargs: see `RegularizerCallback`; ``weight`` is called kappa in the paper.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> FraternalDropoutCallback(sites="weight", rate=0.5, weight=0.15).weight
        0.15
    """

    log_prefix = "fraternal_dropout"
    regularizer: FraternalDropout

    def __init__(
        self,
        sites: SiteSpecs = "recurrent",
        rate: float = 0.05,
        divergence: DivergenceName = "mse_logits",
        direction: Direction = "base_adv",
        detach_base: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(FraternalDropout(rate, divergence, direction, detach_base), sites, **kwargs)


class RDropCallback(RegularizerCallback):
    """R-Drop: symmetric KL under two random masks, and the supervised loss on both; see `RDrop`. One further pass.

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the probability with which a unit is dropped, in [0, 1].
        both_losses: whether the second pass has a supervised loss, too; without it no labels are needed.
        kwargs: see `RegularizerCallback`; ``weight`` is called alpha in the paper.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> RDropCallback(sites="recurrent", rate=0.1, weight=5.0).weight
        5.0
    """

    log_prefix = "r_drop"
    regularizer: RDrop

    def __init__(
        self, sites: SiteSpecs = "recurrent", rate: float = 0.05, both_losses: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(RDrop(rate, both_losses), sites, **kwargs)


class PseudoEnsembleCallback(RegularizerCallback):
    """Pseudo-ensemble agreement: no mask against one random mask; see `PseudoEnsemble`. One further pass.

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `PseudoEnsemble`.
        direction: see there.
        detach_base: see there.
        share_masks: see there.
        kwargs: see `RegularizerCallback`.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> PseudoEnsembleCallback(rate=0.1).regularizer.divergence
        'kl'
    """

    log_prefix = "pseudo_ensemble"
    regularizer: PseudoEnsemble

    def __init__(
        self,
        sites: SiteSpecs = "recurrent",
        rate: float = 0.05,
        divergence: DivergenceName = "kl",
        direction: Direction = "base_adv",
        detach_base: bool = False,
        share_masks: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(PseudoEnsemble(rate, divergence, direction, detach_base, share_masks), sites, **kwargs)


class PiModelCallback(RegularizerCallback):
    """The Pi-model: the squared difference of probabilities with and without a random mask; see `PiModel`.

    One further pass.

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `PiModel`.
        direction: see there.
        detach_base: see there.
        kwargs: see `RegularizerCallback`.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> PiModelCallback(rate=0.1).regularizer.divergence
        'mse_probs'
    """

    log_prefix = "pi_model"
    regularizer: PiModel

    def __init__(
        self,
        sites: SiteSpecs = "recurrent",
        rate: float = 0.05,
        divergence: DivergenceName = "mse_probs",
        direction: Direction = "base_adv",
        detach_base: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(PiModel(rate, divergence, direction, detach_base), sites, **kwargs)


class ExpectationLinearDropoutCallback(RegularizerCallback):
    """Expectation-linear dropout: a random mask against the network as it predicts; see `ExpectationLinearDropout`.

    One further pass.

    Args:
        sites: where masks act, see `lightning_advdrop.masking.find_sites`.
        rate: the probability with which a unit is dropped, in [0, 1].
        divergence: see `ExpectationLinearDropout`.
        direction: see there.
        detach_base: see there.
        kwargs: see `RegularizerCallback`.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> ExpectationLinearDropoutCallback(rate=0.1).regularizer.divergence
        'mse_probs'
    """

    log_prefix = "expectation_linear_dropout"
    regularizer: ExpectationLinearDropout

    def __init__(
        self,
        sites: SiteSpecs = "recurrent",
        rate: float = 0.05,
        divergence: DivergenceName = "mse_probs",
        direction: Direction = "base_adv",
        detach_base: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(ExpectationLinearDropout(rate, divergence, direction, detach_base), sites, **kwargs)

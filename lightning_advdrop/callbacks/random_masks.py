"""Callbacks of the regularizers that compare passes under random masks."""

from lightning_advdrop.callbacks.derived import DerivedCallback
from lightning_advdrop.regularizers import (
    ExpectationLinearDropout,
    FraternalDropout,
    PiModel,
    PseudoEnsemble,
    RDrop,
    VariationalDropout,
)


class VariationalDropoutCallback(DerivedCallback, of=VariationalDropout):
    """Train under random masks, without a penalty: `VariationalDropout` as a callback. No further pass.

    A ``weight`` above 0 changes nothing; with 0 there are no masks.

    Example:
        >>> VariationalDropoutCallback(sites="recurrent", rate=0.25).regularizer.rate
        0.25
    """

    regularizer: VariationalDropout


class FraternalDropoutCallback(DerivedCallback, of=FraternalDropout):
    """Penalise the squared difference of the logits under two random masks: `FraternalDropout` as a callback.

    One further pass. The paper calls ``weight`` kappa.

    Example:
        >>> FraternalDropoutCallback(sites="weight", rate=0.5, weight=0.15).weight
        0.15
    """

    regularizer: FraternalDropout


class RDropCallback(DerivedCallback, of=RDrop):
    """Penalise the symmetric KL divergence under two random masks, and train both on the labels: `RDrop` as a callback.

    One further pass. The paper calls ``weight`` alpha.

    Example:
        >>> RDropCallback(sites="recurrent", rate=0.1, weight=5.0).weight
        5.0
    """

    regularizer: RDrop


class PseudoEnsembleCallback(DerivedCallback, of=PseudoEnsemble):
    """Penalise the divergence between no mask and one random mask: `PseudoEnsemble` as a callback. One further pass.

    Example:
        >>> PseudoEnsembleCallback(rate=0.1).regularizer.divergence
        'auto'
    """

    regularizer: PseudoEnsemble


class PiModelCallback(DerivedCallback, of=PiModel):
    """Penalise the squared difference of probabilities with and without a random mask: `PiModel` as a callback.

    One further pass.

    Example:
        >>> PiModelCallback(rate=0.1).regularizer.divergence
        'mse_probs'
    """

    regularizer: PiModel


class ExpectationLinearDropoutCallback(DerivedCallback, of=ExpectationLinearDropout):
    """Penalise the distance between a random mask and the network as it predicts.

    `ExpectationLinearDropout` as a callback. One further pass.

    Example:
        >>> ExpectationLinearDropoutCallback(rate=0.1).regularizer.divergence
        'mse_probs'
    """

    regularizer: ExpectationLinearDropout

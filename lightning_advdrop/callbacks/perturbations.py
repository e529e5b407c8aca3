"""Callbacks of the regularizers that perturb embeddings (by default) or the inputs of recurrent layers."""

from lightning_advdrop.callbacks.derived import DerivedCallback
from lightning_advdrop.regularizers import AdversarialTraining, RandomPerturbation, VirtualAdversarialTraining


class RandomPerturbationCallback(DerivedCallback, of=RandomPerturbation, sites="embedding"):
    """Penalise how a random perturbation changes the prediction: `RandomPerturbation` as a callback.

    One further pass. ``sites`` are of the kinds ``embedding`` and ``input``.

    Example:
        >>> RandomPerturbationCallback(sites="embedding", epsilon=5.0).regularizer.epsilon
        5.0
    """

    regularizer: RandomPerturbation


class VirtualAdversarialCallback(DerivedCallback, of=VirtualAdversarialTraining, sites="embedding"):
    """Penalise how the worst small perturbation changes the prediction: `VirtualAdversarialTraining` as a callback.

    One further pass, and one for each power iteration. ``sites`` are of the kinds ``embedding`` and ``input``.

    Example:
        >>> VirtualAdversarialCallback(sites="embedding", epsilon=5.0).regularizer.power_iterations
        1
    """

    regularizer: VirtualAdversarialTraining


class AdversarialTrainingCallback(DerivedCallback, of=AdversarialTraining, sites="embedding"):
    """Add the loss under the perturbation that raises it most: `AdversarialTraining` as a callback.

    One further pass. ``sites`` are of the kinds ``embedding`` and ``input``.

    Example:
        >>> AdversarialTrainingCallback(sites="embedding", epsilon=5.0).regularizer.epsilon
        5.0
    """

    regularizer: AdversarialTraining

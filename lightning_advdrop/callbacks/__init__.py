"""Regularizers as Lightning callbacks."""

from lightning_advdrop.callbacks.adversarial_dropout import AdversarialDropoutCallback
from lightning_advdrop.callbacks.averaging import ExponentialAveraging
from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.callbacks.best_or_start import BestOrStartCheckpoint
from lightning_advdrop.callbacks.denormals import flush_denormals
from lightning_advdrop.callbacks.description import describe_sites
from lightning_advdrop.callbacks.inference_gap import InferenceGapMonitor
from lightning_advdrop.callbacks.keep_best import KeepBest
from lightning_advdrop.callbacks.mask_statistics import MaskStatistics
from lightning_advdrop.callbacks.non_monotonic import NonMonotonicAveraging
from lightning_advdrop.callbacks.perturbations import (
    AdversarialTrainingCallback,
    RandomPerturbationCallback,
    VirtualAdversarialCallback,
)
from lightning_advdrop.callbacks.random_masks import (
    ExpectationLinearDropoutCallback,
    FraternalDropoutCallback,
    PiModelCallback,
    PseudoEnsembleCallback,
    RDropCallback,
    VariationalDropoutCallback,
)
from lightning_advdrop.callbacks.random_state import GlobalRandomState
from lightning_advdrop.callbacks.running_metrics import RunningMetrics
from lightning_advdrop.callbacks.terminate_on_nan import TerminateOnNaN
from lightning_advdrop.callbacks.training_step import regularized_loss

__all__ = [
    "AdversarialDropoutCallback",
    "AdversarialTrainingCallback",
    "BestOrStartCheckpoint",
    "ExpectationLinearDropoutCallback",
    "ExponentialAveraging",
    "FraternalDropoutCallback",
    "GlobalRandomState",
    "InferenceGapMonitor",
    "KeepBest",
    "MaskStatistics",
    "NonMonotonicAveraging",
    "PiModelCallback",
    "PseudoEnsembleCallback",
    "RDropCallback",
    "RandomPerturbationCallback",
    "RegularizerCallback",
    "RunningMetrics",
    "TerminateOnNaN",
    "VariationalDropoutCallback",
    "VirtualAdversarialCallback",
    "describe_sites",
    "flush_denormals",
    "regularized_loss",
]

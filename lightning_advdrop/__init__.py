"""Adversarial dropout for recurrent networks (Park et al., AAAI 2019) as PyTorch Lightning callbacks.

Example:
    >>> from lightning_advdrop import AdversarialDropoutCallback
    >>> callback = AdversarialDropoutCallback(sites="recurrent", rate=0.03)
"""

from lightning_advdrop import functional, masking, nn, regularizers
from lightning_advdrop.__about__ import __version__
from lightning_advdrop.callbacks import (
    AdversarialDropoutCallback,
    AdversarialTrainingCallback,
    ExpectationLinearDropoutCallback,
    ExponentialAveraging,
    FraternalDropoutCallback,
    GlobalRandomState,
    InferenceGapMonitor,
    MaskStatistics,
    NonMonotonicAveraging,
    PiModelCallback,
    PseudoEnsembleCallback,
    RandomPerturbationCallback,
    RDropCallback,
    RegularizerCallback,
    TerminateOnNaN,
    VariationalDropoutCallback,
    VirtualAdversarialCallback,
    regularized_loss,
)
from lightning_advdrop.datamodules import (
    DigitsDataModule,
    ElecDataModule,
    IMDBDataModule,
    MNISTDataModule,
    PennTreebankDataModule,
    RCV1DataModule,
    TextFileDataModule,
    WikiText2DataModule,
)
from lightning_advdrop.tasks import (
    LanguageModelingTask,
    SequentialMNISTTask,
    TextClassificationTask,
    TextPretrainingTask,
)

__all__ = [
    "AdversarialDropoutCallback",
    "AdversarialTrainingCallback",
    "DigitsDataModule",
    "ElecDataModule",
    "ExpectationLinearDropoutCallback",
    "ExponentialAveraging",
    "FraternalDropoutCallback",
    "GlobalRandomState",
    "IMDBDataModule",
    "InferenceGapMonitor",
    "LanguageModelingTask",
    "MNISTDataModule",
    "MaskStatistics",
    "NonMonotonicAveraging",
    "PennTreebankDataModule",
    "PiModelCallback",
    "PseudoEnsembleCallback",
    "RCV1DataModule",
    "RDropCallback",
    "RandomPerturbationCallback",
    "RegularizerCallback",
    "SequentialMNISTTask",
    "TerminateOnNaN",
    "TextClassificationTask",
    "TextFileDataModule",
    "TextPretrainingTask",
    "VariationalDropoutCallback",
    "VirtualAdversarialCallback",
    "WikiText2DataModule",
    "__version__",
    "functional",
    "masking",
    "nn",
    "regularized_loss",
    "regularizers",
]

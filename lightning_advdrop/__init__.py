"""Adversarial dropout for recurrent networks (Park et al., AAAI 2019) as PyTorch Lightning callbacks.

Example:
    >>> from lightning_advdrop import AdversarialDropoutCallback
    >>> callback = AdversarialDropoutCallback(sites="recurrent", rate=0.03)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_advdrop.__about__ import __version__ as __version__

if TYPE_CHECKING:
    from lightning_advdrop.callbacks import (
        AdversarialDropoutCallback,
        AdversarialTrainingCallback,
        BestOrStartCheckpoint,
        ExpectationLinearDropoutCallback,
        ExponentialAveraging,
        FraternalDropoutCallback,
        GlobalRandomState,
        InferenceGapMonitor,
        KeepBest,
        MaskStatistics,
        NonMonotonicAveraging,
        PiModelCallback,
        PseudoEnsembleCallback,
        RandomPerturbationCallback,
        RDropCallback,
        RegularizerCallback,
        RunningMetrics,
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

# No modules: `from lightning_advdrop import *` must not replace the user's own `nn`, `functional`, `__version__`.
__all__ = [
    "AdversarialDropoutCallback",
    "AdversarialTrainingCallback",
    "BestOrStartCheckpoint",
    "DigitsDataModule",
    "ElecDataModule",
    "ExpectationLinearDropoutCallback",
    "ExponentialAveraging",
    "FraternalDropoutCallback",
    "GlobalRandomState",
    "IMDBDataModule",
    "InferenceGapMonitor",
    "KeepBest",
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
    "RunningMetrics",
    "SequentialMNISTTask",
    "TerminateOnNaN",
    "TextClassificationTask",
    "TextFileDataModule",
    "TextPretrainingTask",
    "VariationalDropoutCallback",
    "VirtualAdversarialCallback",
    "WikiText2DataModule",
    "regularized_loss",
]

_ROOMS = ("callbacks", "datamodules", "functional", "masking", "nn", "regularizers", "tasks")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a room when it, or a class of it, is first asked for."""
        if name in _ROOMS:
            return import_module(f"{__name__}.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room = "datamodules" if name.endswith("DataModule") else "tasks" if name.endswith("Task") else "callbacks"
        return getattr(import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})

"""The experiments as LightningModules."""

from lightning_advdrop.tasks.sequential_mnist import SequenceClassifier, SequentialMNISTTask

__all__ = ["SequenceClassifier", "SequentialMNISTTask"]

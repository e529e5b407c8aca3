"""The experiments as LightningModules."""

from lightning_advdrop.tasks.language_modeling import LanguageModelingTask
from lightning_advdrop.tasks.perplexity import TokenPerplexity, token_loss
from lightning_advdrop.tasks.sequential_mnist import SequenceClassifier, SequentialMNISTTask

__all__ = ["LanguageModelingTask", "SequenceClassifier", "SequentialMNISTTask", "TokenPerplexity", "token_loss"]

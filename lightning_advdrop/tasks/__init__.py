"""The experiments as LightningModules."""

from lightning_advdrop.tasks.checkpoints import load_language_model
from lightning_advdrop.tasks.generation import GeneratedText, generate
from lightning_advdrop.tasks.language_modeling import LanguageModelingTask
from lightning_advdrop.tasks.neural_cache import NeuralCacheResult, cache_perplexities, evaluate_neural_cache
from lightning_advdrop.tasks.perplexity import TokenPerplexity, token_loss
from lightning_advdrop.tasks.sequential_mnist import SequenceClassifier, SequentialMNISTTask

__all__ = [
    "GeneratedText",
    "LanguageModelingTask",
    "NeuralCacheResult",
    "SequenceClassifier",
    "SequentialMNISTTask",
    "TokenPerplexity",
    "cache_perplexities",
    "evaluate_neural_cache",
    "generate",
    "load_language_model",
    "token_loss",
]

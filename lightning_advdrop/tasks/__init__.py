"""The experiments as LightningModules."""

from lightning_advdrop.tasks.base_task import BaseTask
from lightning_advdrop.tasks.generation import GeneratedText, generate
from lightning_advdrop.tasks.language_modeling import LanguageModelingTask, load_language_model
from lightning_advdrop.tasks.neural_cache import NeuralCacheResult, cache_perplexities, evaluate_neural_cache
from lightning_advdrop.tasks.perplexity import TokenPerplexity, token_loss
from lightning_advdrop.tasks.rmsprop import RMSpropTF
from lightning_advdrop.tasks.sequential_mnist import SequenceClassifier, SequentialMNISTTask
from lightning_advdrop.tasks.text_classification import Classified, TextClassificationTask, load_text_classifier
from lightning_advdrop.tasks.text_pretraining import TextPretrainingTask, load_pretrained
from lightning_advdrop.tasks.vocabulary import TextSettings, VocabularyTask

__all__ = [
    "BaseTask",
    "Classified",
    "GeneratedText",
    "LanguageModelingTask",
    "NeuralCacheResult",
    "RMSpropTF",
    "SequenceClassifier",
    "SequentialMNISTTask",
    "TextClassificationTask",
    "TextPretrainingTask",
    "TextSettings",
    "TokenPerplexity",
    "VocabularyTask",
    "cache_perplexities",
    "evaluate_neural_cache",
    "generate",
    "load_language_model",
    "load_pretrained",
    "load_text_classifier",
    "token_loss",
]

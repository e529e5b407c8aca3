"""The base of the tasks that predict each next word of a long text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from lightning_advdrop._lightning import attached_trainer
from lightning_advdrop.tasks.carried import CarriedStates
from lightning_advdrop.tasks.perplexity import IGNORED, TokenPerplexity
from lightning_advdrop.tasks.vocabulary import VocabularyTask

Batch = tuple[Tensor, Tensor]
"""Words and the words that follow them, ``(T, B)`` each."""


class NextWordTask(VocabularyTask):
    """Predict each next word, with hidden states that go from batch to batch and are part of a checkpoint.

    Logs the loss and ``perplexity`` of each stage, over all words alike.

    Attributes:
        carried: the hidden states.
    """

    def __init__(self) -> None:
        super().__init__()
        self.carried = CarriedStates()

    def make_metrics(self) -> Mapping[str, Metric]:
        """Make the perplexity."""
        return {"perplexity": TokenPerplexity()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the vocabulary, and the states that a training that is resumed within an epoch goes on from."""
        super().on_save_checkpoint(checkpoint)
        self.carried.save(checkpoint, attached_trainer(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network or check the vocabulary, and restore the states."""
        super().on_load_checkpoint(checkpoint)
        self.carried.load(checkpoint, attached_trainer(self))

    def _log_words(self, stage: str, loss: Tensor, targets: Tensor) -> None:
        """Log the mean loss of a batch's words."""
        count = int((targets != IGNORED).sum())
        self._log(stage, loss, count, loss.detach(), count)

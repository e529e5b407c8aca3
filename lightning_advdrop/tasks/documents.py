"""What classifying documents needs besides a network: joining batches, and metrics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score, MulticlassAccuracy, MulticlassF1Score

from lightning_advdrop.datamodules.text_batches import TextBatch


def joined(first: TextBatch, second: TextBatch, padding_index: int) -> TextBatch:
    """Two batches of documents as one.

    Args:
        first: the documents that come first.
        second: those that come behind them.
        padding_index: fills up the shorter ones.

    Example:
        >>> one = TextBatch(torch.tensor([[5, 6, 2]]), torch.tensor([3]), torch.tensor([1]))
        >>> two = TextBatch(torch.tensor([[7, 2]]), torch.tensor([2]), torch.tensor([-100]))
        >>> joined(one, two, padding_index=0).tokens
        tensor([[5, 6, 2],
                [7, 2, 0]])
    """
    steps = max(first.tokens.shape[1], second.tokens.shape[1])
    tokens = [F.pad(part.tokens, (0, steps - part.tokens.shape[1]), value=padding_index) for part in (first, second)]
    return TextBatch(
        torch.cat(tokens), torch.cat([first.lengths, second.lengths]), torch.cat([first.labels, second.labels])
    )


def predicted_classes(logits: Tensor) -> Tensor:
    """The most probable class of each document.

    Metrics are given these, not logits, which torchmetrics takes for probabilities where all of a batch are in [0, 1].

    Args:
        logits: ``(B, classes)``, or ``(B, 1)`` of two classes.

    Returns:
        ``(B,)`` of dtype ``int64``.

    Example:
        >>> predicted_classes(torch.tensor([[0.2], [-0.3]]))
        tensor([1, 0])
    """
    return logits.squeeze(-1).gt(0).long() if logits.shape[-1] == 1 else logits.argmax(-1)


def document_metrics(classes: int, prefix: str) -> MetricCollection:
    """The error rate, ``error``, and the F1 score, ``f1``, of `predicted_classes`.

    Args:
        classes: at least 2. Of two, F1 is that of the class 1, else the mean of all classes.
        prefix: before the metrics' names.

    Example:
        >>> metrics = document_metrics(2, prefix="val/")
        >>> found = metrics(torch.tensor([1, 0]), torch.tensor([1, 1]))
        >>> {name: round(value.item(), 2) for name, value in found.items()}
        {'val/error': 0.5, 'val/f1': 0.67}
    """
    accuracy = BinaryAccuracy() if classes == 2 else MulticlassAccuracy(classes, average="micro")
    f1 = BinaryF1Score() if classes == 2 else MulticlassF1Score(classes, average="macro")
    return MetricCollection({"error": 1 - accuracy, "f1": f1}, prefix=prefix, compute_groups=False)

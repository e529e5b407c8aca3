"""Join batches of documents, and choose their classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.datamodules.text_batches import TextBatch


def joined(first: TextBatch, second: TextBatch, padding_index: int) -> TextBatch:
    """Join two batches of documents, the shorter of which are filled up with ``padding_index``.

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
    """Return the most probable class of each document.

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

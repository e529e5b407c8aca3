"""Compute losses and perplexities of language models."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

IGNORED = -100
"""The target at positions without a token: where the end of a text is padded to a whole batch."""


def token_loss(logits: Tensor, targets: Tensor, reduction: Literal["mean", "none"] = "mean") -> Tensor:
    """Compute the cross-entropy of predicted words.

    Args:
        logits: ``(T, B, V)``.
        targets: the words' numbers, int64, ``(T, B)``; `IGNORED` at positions that are left out.
        reduction: ``mean`` over all tokens, or ``none``.

    Returns:
        A scalar, or ``(T, B)`` with 0 at positions that are left out.

    Example:
        >>> round(token_loss(torch.zeros(5, 2, 10), torch.zeros(5, 2, dtype=torch.int64)).exp().item(), 4)
        10.0
    """
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction=reduction)
    return loss if reduction == "mean" else loss.view_as(targets)


class TokenPerplexity(Metric):
    """The exponential of the mean loss of all tokens of a split, however they are spread over batches.

    `torchmetrics.text.Perplexity` takes logits and computes a softmax of its own; this takes the loss that is there.

    Args:
        shape: of the losses, for several perplexities at once; none for one.
        kwargs: see `torchmetrics.Metric`.

    Example:
        >>> perplexity = TokenPerplexity()
        >>> perplexity.update(torch.tensor(2.0).log(), tokens=3)
        >>> perplexity.update(torch.tensor(32.0).log(), tokens=1)
        >>> round(perplexity.compute().item(), 4)
        4.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, *shape: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(shape), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, tokens: int) -> None:
        """Add a batch.

        Args:
            loss: the mean loss of its tokens, of the metric's shape: a scalar by default.
            tokens: how many there are.
        """
        self.total += loss * tokens
        self.count += tokens

    def compute(self) -> Tensor:
        """Compute the perplexity, of the metric's shape, at least 1."""
        return torch.exp(self.total / self.count)

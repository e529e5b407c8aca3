"""The base of the tasks that predict each next word of a long text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_advdrop._lightning import attached_trainer
from lightning_advdrop.tasks.perplexity import IGNORED, TokenPerplexity
from lightning_advdrop.tasks.vocabulary import VocabularyTask

Batch = tuple[Tensor, Tensor]
"""Words and the words that follow them, ``(T, B)`` each."""
State = tuple[Tensor, Tensor]
"""The hidden and the cell state of a layer, ``(1, B, H)`` each."""


class NextWordTask(VocabularyTask):
    """Predict each next word, with hidden states that go from batch to batch and are part of a checkpoint.

    Logs the loss and ``perplexity`` of each stage, over all words alike.

    Attributes:
        carried: the states of each layer that the last batch of each stage ended with, without a gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.carried: dict[str, list[State]] = {}

    def make_metrics(self) -> Mapping[str, Metric]:
        """Make the perplexity."""
        return {"perplexity": TokenPerplexity()}

    def states_before(self, stage: str, batch_idx: int, tokens: Tensor) -> list[State] | None:
        """Return the states that a batch begins with; None for zeros, at the beginning of a text.

        Args:
            stage: which text.
            batch_idx: the batch's number in a pass over it, from 0.
            tokens: the batch, ``(T, B)``.

        Raises:
            ValueError: if the batch has another number of columns than the one before.
        """
        states = self.carried.get(stage) if batch_idx > 0 else None
        if states is None:
            return None
        columns = states[0][0].shape[1]
        if columns != tokens.shape[1]:
            raise ValueError(
                "batch must go on where the one before ended and have as many columns, "
                f"got {tokens.shape[1]} behind {columns}."
            )
        return [(h.to(tokens.device), c.to(tokens.device)) for h, c in states]

    def keep_states(self, stage: str, states: Sequence[State]) -> None:
        """Keep what a batch ended with."""
        self.carried[stage] = [(h.detach(), c.detach()) for h, c in states]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the vocabulary, and the states of every process's columns, which a resumed epoch goes on from."""
        super().on_save_checkpoint(checkpoint)
        states, trainer = self.carried.get("train"), attached_trainer(self)
        if states is not None and trainer is not None and trainer.world_size > 1:
            device, gather = trainer.strategy.root_device, trainer.strategy.all_gather
            everywhere = [[torch.cat(list(gather(own.to(device).contiguous())), 1) for own in pair] for pair in states]
            states = [(h, c) for h, c in everywhere]
        checkpoint["carried_states"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network or check the vocabulary, and restore the states of this process's columns."""
        super().on_load_checkpoint(checkpoint)
        states, trainer = checkpoint.get("carried_states"), attached_trainer(self)
        if states is not None:
            count, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
            own = [[part.tensor_split(count, dim=1)[rank] for part in pair] for pair in states]
            self.keep_states("train", [(h, c) for h, c in own])

    def _log_words(self, stage: str, loss: Tensor, targets: Tensor) -> None:
        """Log the mean loss of a batch's words."""
        count = int((targets != IGNORED).sum())
        self._log(stage, loss, count, loss.detach(), count)

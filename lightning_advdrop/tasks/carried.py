"""Carry hidden states from batch to batch of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

State = tuple[Tensor, Tensor]


_KEY = "carried_states"  # in checkpoints


class CarriedStates:
    """The hidden states with which the next batch of a text begins, without a gradient, one set for each split.

    Example:
        >>> import torch
        >>> carried, state = CarriedStates(), (torch.ones(1, 2, 3), torch.ones(1, 2, 3))
        >>> carried.keep("train", [state])
        >>> len(carried.before("train", 7, torch.zeros(5, 2))), carried.before("train", 0, torch.zeros(5, 2))
        (1, None)
    """

    def __init__(self) -> None:
        self._states: dict[str, list[State]] = {}

    def before(self, split: str, batch_idx: int, tokens: Tensor) -> list[State] | None:
        """Return the states that a batch begins with; None for zeros, at the beginning of a text.

        Args:
            split: which text.
            batch_idx: the batch's number in a pass over it, from 0.
            tokens: the batch, ``(T, B)``.

        Raises:
            ValueError: if the batch has another number of columns than the one before.
        """
        states = self._states.get(split) if batch_idx > 0 else None
        if states is None:
            return None
        columns = states[0][0].shape[1]
        if columns != tokens.shape[1]:
            raise ValueError(
                "batch must go on where the one before ended and have as many columns, "
                f"got {tokens.shape[1]} behind {columns}."
            )
        return [(h.to(tokens.device), c.to(tokens.device)) for h, c in states]

    def keep(self, split: str, states: Sequence[State]) -> None:
        """Keep what a batch ended with.

        Args:
            split: which text.
            states: of each layer hidden and cell state, ``(1, B, H)`` each.
        """
        self._states[split] = [(h.detach(), c.detach()) for h, c in states]

    def get(self, split: str) -> list[State] | None:
        """Return what was kept; None for nothing."""
        return self._states.get(split)

    def save(self, checkpoint: dict[str, Any], trainer: Trainer | None) -> None:
        """Add the states of training to a checkpoint: side by side those of every process's columns of the text.

        Args:
            checkpoint: its content.
            trainer: what knows the processes; None for one.
        """

        def gathered(state: Tensor) -> Tensor:
            if trainer is None or trainer.world_size == 1:
                return state
            own = state.to(trainer.strategy.root_device).contiguous()
            return torch.cat(list(trainer.strategy.all_gather(own)), dim=1)

        states = self._states.get("train")
        checkpoint[_KEY] = None if states is None else [(gathered(h), gathered(c)) for h, c in states]

    def load(self, checkpoint: Mapping[str, Any], trainer: Trainer | None) -> None:
        """Restore the states of this process's columns, also where another number of processes had been at work.

        Args:
            checkpoint: its content.
            trainer: what knows the processes; None for one.
        """
        states = checkpoint.get(_KEY)
        if states is not None:
            count, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
            own = [[part.tensor_split(count, dim=1)[rank] for part in pair] for pair in states]
            self.keep("train", [(h, c) for h, c in own])

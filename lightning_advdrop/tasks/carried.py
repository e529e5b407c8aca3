"""Hidden states that go from batch to batch with the text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor

State = tuple[Tensor, Tensor]


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
        """The states that a batch begins with; None for zeros, at the beginning of a text.

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
        """Keeps what a batch ended with.

        Args:
            split: which text.
            states: of each layer hidden and cell state, ``(1, B, H)`` each.
        """
        self._states[split] = [(h.detach(), c.detach()) for h, c in states]

    def get(self, split: str) -> list[State] | None:
        """What was kept, for a checkpoint; None for nothing."""
        return self._states.get(split)


def all_columns(states: Sequence[State], trainer: Trainer | None) -> list[State]:
    """The states of every process's columns of the text, for a checkpoint, which one process writes.

    Args:
        states: those of this process, ``(1, B, H)`` each.
        trainer: what knows the processes; None for one.

    Returns:
        Those of all, side by side, ``(1, processes * B, H)`` each.
    """
    if trainer is None or trainer.world_size == 1:
        return list(states)

    def gathered(state: Tensor) -> Tensor:
        own = state.to(trainer.strategy.root_device).contiguous()
        return torch.cat(list(trainer.strategy.all_gather(own)), dim=1)

    return [(gathered(h), gathered(c)) for h, c in states]


def own_columns(states: Sequence[State], trainer: Trainer | None) -> list[State]:
    """This process's part of what `all_columns` returned, also where others had been at work then.

    Args:
        states: those of all processes, ``(1, processes * B, H)`` each.
        trainer: what knows the processes; None for one.

    Returns:
        Those of this process, ``(1, B, H)`` each.

    Example:
        >>> state = torch.ones(1, 4, 3), torch.ones(1, 4, 3)
        >>> own_columns([state], None)[0][0].shape
        torch.Size([1, 4, 3])
    """
    if trainer is None:
        return list(states)
    count, rank = trainer.world_size, trainer.global_rank
    return [(h.tensor_split(count, dim=1)[rank], c.tensor_split(count, dim=1)[rank]) for h, c in states]

"""Sequences in packed form: the rows of all steps stand one after the other, ``(N, features)``.

``batch_sizes`` says how many rows belong to each step, never more than to the step before. A padded batch ``(T, B,
features)`` is the case of ``T`` times ``B`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Rows (steps times examples) whose gates are handled together on the CPU: enough for an efficient matrix product, and
# few enough for its result to be in the cache when the recurrence reads it.
_BLOCK_ROWS = 512


class Block(NamedTuple):
    """A run of steps: ``first`` to ``last`` (excluded), which hold the rows ``start`` to ``stop`` (excluded)."""

    first: int
    last: int
    start: int
    stop: int

    @property
    def steps(self) -> slice:
        """The block's part of a list with one entry for each step."""
        return slice(self.first, self.last)

    @property
    def rows(self) -> slice:
        """The block's part of a tensor of rows."""
        return slice(self.start, self.stop)


def blocks(batch_sizes: Sequence[int], device: torch.device) -> Iterator[Block]:
    """Cuts the steps into blocks; on other devices than the CPU there is one."""
    limit = _BLOCK_ROWS if device.type == "cpu" else sum(batch_sizes)
    first = start = stop = 0
    for step, size in enumerate(batch_sizes):
        if step > first and stop + size - start > limit:
            yield Block(first, step, start, stop)
            first, start = step, stop
        stop += size
    yield Block(first, len(batch_sizes), start, stop)


def split_steps(rows: Tensor, batch_sizes: Sequence[int]) -> Sequence[Tensor]:
    """Views of each step's rows."""
    return torch.split_with_sizes(rows, list(batch_sizes))


def step_masks(mask: Tensor, batch_sizes: Sequence[int]) -> list[Tensor]:
    """The mask of each step, ``(rows, P)``: the same one for every step unless ``mask`` is ``(T, B, P)``."""
    per_step = mask.unbind(0) if mask.dim() == 3 else [mask] * len(batch_sizes)
    return [m if len(m) == size else m[:size] for m, size in zip(per_step, batch_sizes, strict=True)]


def previous_states(rows: Tensor, initial: Tensor, batch_sizes: Sequence[int]) -> list[Tensor]:
    """What each step reads of a state: the step before, without the sequences that have ended."""
    states = (initial, *split_steps(rows, batch_sizes)[:-1])
    return [s if len(s) == size else s[:size] for s, size in zip(states, batch_sizes, strict=True)]


def final_states(rows: Tensor, batch_sizes: Sequence[int]) -> Tensor:
    """A copy of each sequence's last row, ``(B, width)``."""
    if batch_sizes[0] == batch_sizes[-1]:
        return rows[len(rows) - batch_sizes[-1] :].clone()
    return rows[last_rows(batch_sizes, rows.device)]


def last_rows(batch_sizes: Sequence[int], device: torch.device) -> Tensor:
    """The packed row of each sequence's last step, ``(B,)``."""
    rows = torch.empty(batch_sizes[0], dtype=torch.long, device=device)
    start = 0
    for size in batch_sizes:
        rows[:size] = torch.arange(start, start + size, device=device)
        start += size
    return rows


def mirrored_rows(batch_sizes: Sequence[int], device: torch.device) -> Tensor:
    """For each packed row the row of the same sequence's mirrored step, ``(N,)``; applied twice it is the identity."""
    sizes = torch.tensor(batch_sizes)
    starts = sizes.cumsum(0) - sizes
    step, sequence = _steps_and_sequences(sizes)
    lengths = (sizes.unsqueeze(1) > torch.arange(batch_sizes[0])).sum(0)  # (B,)
    mirrored: Tensor = starts[lengths[sequence] - 1 - step] + sequence
    return mirrored.to(device)


def mask_sequences(rows: Tensor, batch_sizes: Sequence[int], mask: Tensor) -> Tensor:
    """Multiplies all rows ``(N, D)`` of a sequence by its row of ``mask``, ``(B, D)``."""
    if batch_sizes[0] == batch_sizes[-1]:
        steps = rows.reshape(len(batch_sizes), batch_sizes[0], rows.shape[1])
        return (steps * mask).flatten(0, 1)
    _, sequence = _steps_and_sequences(torch.tensor(batch_sizes))
    return rows * mask[sequence.to(mask.device)]


def _steps_and_sequences(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The step and the sequence that each packed row belongs to, each ``(N,)``."""
    step = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    starts = sizes.cumsum(0) - sizes
    return step, torch.arange(len(step)) - starts[step]

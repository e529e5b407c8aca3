"""Sequences in packed form, the rows of all steps one after the other, ``(N, features)``.

``batch_sizes`` holds the number of rows of each step, which never increases. A padded batch ``(T, B, features)`` has
``T`` times ``B`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Rows (steps times examples) whose gates are computed together on the CPU: enough for an efficient matrix product and
# for pointwise operations that use all threads, few enough for the results to stay in the cache until the recurrence
# reads them. Wide layers have no more than the first asks for.
_MIN_BLOCK_ROWS = 512
_BLOCK_ELEMENTS = 2**20


class Block(NamedTuple):
    """A block of steps, ``first`` to ``last`` (excluded), with the rows ``start`` to ``stop`` (excluded)."""

    first: int
    last: int
    start: int
    stop: int

    @property
    def steps(self) -> slice:
        """The block's slice of a list with one entry per step."""
        return slice(self.first, self.last)

    @property
    def rows(self) -> slice:
        """The block's slice of a tensor of rows."""
        return slice(self.start, self.stop)


def blocks(batch_sizes: Sequence[int], device: torch.device, width: int) -> Iterator[Block]:
    """Cut the steps, whose rows have ``width`` gates, into blocks; on devices other than the CPU there is one."""
    limit = max(_MIN_BLOCK_ROWS, _BLOCK_ELEMENTS // width) if device.type == "cpu" else sum(batch_sizes)
    first = start = stop = 0
    for step, size in enumerate(batch_sizes):
        if step > first and stop + size - start > limit:
            yield Block(first, step, start, stop)
            first, start = step, stop
        stop += size
    yield Block(first, len(batch_sizes), start, stop)


def split_steps(rows: Tensor, batch_sizes: Sequence[int]) -> Sequence[Tensor]:
    """Return views of each step's rows."""
    return torch.split_with_sizes(rows, list(batch_sizes))


def first_rows(rows: Tensor, count: int) -> Tensor:
    """Return the first rows; a view only where there are more, since taking one costs as much as a small kernel."""
    return rows if len(rows) == count else rows[:count]


def step_masks(mask: Tensor, batch_sizes: Sequence[int]) -> list[Tensor]:
    """Return the mask of each step, ``(rows, P)``, of a mask ``(B, P)`` or ``(T, B, P)``."""
    per_step = mask.unbind(0) if mask.dim() == 3 else [mask] * len(batch_sizes)
    return [first_rows(m, size) for m, size in zip(per_step, batch_sizes, strict=True)]


def previous_states(rows: Tensor, initial: Tensor, batch_sizes: Sequence[int]) -> list[Tensor]:
    """Return the state that each step reads: that of the step before, without the sequences that have ended."""
    states = (initial, *split_steps(rows, batch_sizes)[:-1])
    return [first_rows(s, size) for s, size in zip(states, batch_sizes, strict=True)]


def final_states(rows: Tensor, batch_sizes: Sequence[int]) -> Tensor:
    """Copy each sequence's last row, ``(B, width)``."""
    if batch_sizes[0] == batch_sizes[-1]:
        return rows[len(rows) - batch_sizes[-1] :].clone()
    return rows[last_rows(batch_sizes, rows.device)]


def last_rows(batch_sizes: Sequence[int], device: torch.device) -> Tensor:
    """Return the index of each sequence's last row, ``(B,)``."""
    rows = torch.empty(batch_sizes[0], dtype=torch.long, device=device)
    start = 0
    for size in batch_sizes:
        rows[:size] = torch.arange(start, start + size, device=device)
        start += size
    return rows


def mirrored_rows(batch_sizes: Sequence[int], device: torch.device) -> Tensor:
    """Return the row indices, ``(N,)``, that reverse each sequence; applied twice they are the identity."""
    sizes = torch.tensor(batch_sizes)
    starts = sizes.cumsum(0) - sizes
    step, sequence = _steps_and_sequences(sizes)
    lengths = (sizes.unsqueeze(1) > torch.arange(batch_sizes[0])).sum(0)  # (B,)
    mirrored: Tensor = starts[lengths[sequence] - 1 - step] + sequence
    return mirrored.to(device)


def mask_sequences(rows: Tensor, batch_sizes: Sequence[int], mask: Tensor) -> Tensor:
    """Multiply all rows ``(N, D)`` of a sequence by its row of ``mask``, ``(B, D)``."""
    if batch_sizes[0] == batch_sizes[-1]:
        steps = rows.reshape(len(batch_sizes), batch_sizes[0], rows.shape[1])
        return (steps * mask).flatten(0, 1)
    _, sequence = _steps_and_sequences(torch.tensor(batch_sizes))
    return rows * mask[sequence.to(mask.device)]


def _steps_and_sequences(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step and the sequence of each packed row, each ``(N,)``."""
    step = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    starts = sizes.cumsum(0) - sizes
    return step, torch.arange(len(step)) - starts[step]

"""The random generator of a callback in each of several processes."""

from __future__ import annotations

import torch
from torch import Tensor


def go_on(generator: torch.Generator, states: Tensor, rank: int) -> None:
    """Makes a generator go on from what was saved of all processes.

    Args:
        generator: a generator of the CPU.
        states: the state of each process's generator, ``(processes, bytes)``, of uint8.
        rank: this process. One that was not there draws random numbers of its own.

    Example:
        >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        >>> states = torch.stack([generator.get_state() for generator in generators])
        >>> again = torch.Generator()
        >>> go_on(again, states, rank=1)
        >>> torch.equal(torch.rand(2, generator=again), torch.rand(2, generator=generators[1]))
        True
    """
    if rank < len(states):
        generator.set_state(states[rank].clone())
        return
    generator.set_state(states[0].clone())
    generator.manual_seed(int(torch.randint(2**62, (), generator=generator)) + rank)

"""Save and restore the global random generators that a forward pass may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """The states of the global generators: torch's on the CPU and on each GPU in use, NumPy's and Python's.

    Example:
        >>> state = RandomState.now()
        >>> first = torch.rand(3)
        >>> state.restore()
        >>> torch.equal(first, torch.rand(3))
        True
    """

    cpu: Tensor
    cuda: tuple[Tensor, ...]
    numpy: Any
    python: Any

    @classmethod
    def now(cls) -> RandomState:
        """Return the present state."""
        cuda = tuple(torch.cuda.get_rng_state_all()) if _cuda_in_use() else ()
        return cls(torch.get_rng_state(), cuda, np.random.get_state(), random.getstate())

    @classmethod
    def seeded(cls, seed: int) -> RandomState:
        """Return the state of generators that all start from one seed, without changing the present state.

        Args:
            seed: at least 0 and below 2^32, the range of NumPy's generator.
        """
        with isolated():
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            return cls.now()

    def restore(self) -> None:
        """Set the global generators to this state."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))
        np.random.set_state(self.numpy)
        random.setstate(self.python)


def _cuda_in_use() -> bool:
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return in_use


@contextmanager
def isolated() -> Iterator[None]:
    """Restore the global generators at the end of the context.

    Example:
        >>> with isolated():
        ...     first = torch.rand(1)
        >>> torch.equal(first, torch.rand(1))
        True
    """
    state = RandomState.now()
    try:
        yield
    finally:
        state.restore()

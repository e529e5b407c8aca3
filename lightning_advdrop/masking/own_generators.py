"""Random generators that a module owns: torch's, NumPy's and Python's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch


class GeneratorType(NamedTuple):
    """How to get, set and seed the state of a generator.

    Attributes:
        get: returns the state.
        set: sets it.
        seed: starts the generator from a seed in [0, 2^32).
    """

    get: Callable[[Any], Any]
    set: Callable[[Any, Any], Any]
    seed: Callable[[Any, int], Any]


def _set_bits(generator: Any, state: Any) -> None:
    generator.state = state


def _seed_bits(generator: Any, seed: int) -> None:
    _set_bits(generator, type(generator)(seed).state)


_TYPES: dict[type, GeneratorType] = {
    torch.Generator: GeneratorType(
        lambda g: g.get_state(), lambda g, state: g.set_state(state), lambda g, seed: g.manual_seed(seed)
    ),
    np.random.BitGenerator: GeneratorType(lambda g: g.state, _set_bits, _seed_bits),
    np.random.RandomState: GeneratorType(
        lambda g: g.get_state(legacy=False), lambda g, state: g.set_state(state), lambda g, seed: g.seed(seed)
    ),
    random.Random: GeneratorType(random.Random.getstate, random.Random.setstate, random.Random.seed),
}


def generator_type(kind: type) -> GeneratorType | None:
    """Return how generators of a type are handled; None if it is no type of generators.

    `random.SystemRandom` has no state.
    """
    if issubclass(kind, random.SystemRandom):
        return None
    return next((found for base, found in _TYPES.items() if issubclass(kind, base)), None)


class DrawsNumbers:
    """The facet of a random generator: its state, which is no object to look into."""

    refills = True

    def __init__(self, kind: GeneratorType) -> None:
        self._kind = kind

    def read(self, holder: Any) -> Any:
        """Return the state, in place of the keys, and no values."""
        return self._kind.get(holder), ()

    def fill(self, holder: Any, keys: Any, values: Any) -> None:
        """Set the state."""
        self._kind.set(holder, keys)

    def seed(self, holder: Any, seed: int) -> None:
        """Start the generator from a seed.

        Args:
            holder: the generator.
            seed: at least 0 and below 2^32.
        """
        self._kind.seed(holder, seed)

    def name(self, key: Any) -> str:
        """Return nothing: there is nothing inside."""
        return ""

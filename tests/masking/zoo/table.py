"""All models of the zoo."""

from tests.masking.zoo import buffers, carried, inputs, randomness, recurrences, weights
from tests.masking.zoo.registry import ZOO, Entry

FILES = [buffers, carried, inputs, randomness, recurrences, weights]

__all__ = ["FILES", "ZOO", "Entry"]

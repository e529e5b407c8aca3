"""All models of the zoo."""

from tests.masking.zoo import buffers, carried, randomness
from tests.masking.zoo.registry import ZOO, Entry

FILES = [buffers, carried, randomness]

__all__ = ["FILES", "ZOO", "Entry"]

"""All models of the zoo."""

from tests.masking.zoo import (
    attention,
    buffers,
    carried,
    corners,
    inputs,
    outputs,
    randomness,
    recurrences,
    steps,
    weights,
)
from tests.masking.zoo.registry import ZOO, Entry

FILES = [attention, buffers, carried, corners, inputs, outputs, randomness, recurrences, steps, weights]

__all__ = ["FILES", "ZOO", "Entry"]

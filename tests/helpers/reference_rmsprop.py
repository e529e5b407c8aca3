"""RMSprop by its formula, one number at a time, in Python's own floats."""

from __future__ import annotations

import math
from collections.abc import Iterable


def rmsprop(
    weight: float, gradients: Iterable[float], lr: float, decay: float, epsilon: float = 1e-10, start: float = 1.0
) -> list[float]:
    """The weight after each step: TensorFlow's mean square starts at 1, and epsilon is inside the root."""
    mean_square, found = start, []
    for gradient in gradients:
        mean_square = decay * mean_square + (1 - decay) * gradient * gradient
        weight = weight - lr * gradient / math.sqrt(mean_square + epsilon)
        found.append(weight)
    return found

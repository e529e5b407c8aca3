"""The penalty of a regularizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lightning_advdrop.masking import MaskSite


@dataclass(frozen=True)
class Penalty:
    """The penalty of a regularizer, with numbers to log.

    Attributes:
        value: the penalty before its weight, a scalar with a graph.
        metrics: numbers to log, by name.
        supervised: a further supervised loss, which no weight multiplies, a scalar with a graph; None for none.
        masks: the binary masks that were found, for regularizers that search them.
    """

    value: Tensor
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    supervised: Tensor | None = None
    masks: Mapping[MaskSite, Tensor] = field(default_factory=dict)

    def weighted(self, weight: float) -> Tensor:
        """Compute the term of the loss: the weighted penalty, plus the further supervised loss if there is one."""
        term = weight * self.value
        return term if self.supervised is None else term + self.supervised

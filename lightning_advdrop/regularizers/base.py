"""What every regularizer works with: a base pass, and a way to run the forward again under masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_advdrop.masking import Masks, MaskSite, RecordedForward


@dataclass(frozen=True)
class Passes:
    """A base pass with its prediction, and the means to make other passes over the same batch.

    Attributes:
        recorded: the forward pass that was run once.
        forward: runs the forward again and returns its prediction.
        base: the prediction of the first run, ``(B, ..., classes)``, with its graph.
        target: the labels, ``(B, ...)``, for divergences that need them.
        weight: weights of the examples and time steps, broadcastable to ``(B, ...)``; None weighs all alike.
        generator: draws the regularizer's own random masks, apart from the global generators.

    Example:
        >>> from lightning_advdrop.masking import find_sites
        >>> lstm, x = torch.nn.LSTM(4, 3), torch.randn(5, 2, 4)
        >>> recorded = RecordedForward(lstm, find_sites(lstm), share_noise=True)
        >>> with recorded.first_run():
        ...     base = lstm(x)[0][-1]
        >>> passes = Passes(recorded, lambda: lstm(x)[0][-1], base)
        >>> passes.run({site: site.ones(2) for site in recorded.sites}).shape
        torch.Size([2, 3])
    """

    recorded: RecordedForward
    forward: Callable[[], Tensor]
    base: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None
    generator: torch.Generator | None = None

    @property
    def batch_sizes(self) -> Mapping[MaskSite, int]:
        """The batch size that each site met in the base pass; sites that did not take part are missing."""
        return self.recorded.batch_sizes

    def run(self, masks: Masks) -> Tensor:
        """The prediction under masks, with a graph to masks and parameters."""
        prediction: Tensor = self.recorded.run(self.forward, masks)
        return prediction

    def probe(self, masks: Masks) -> Tensor:
        """The prediction under masks, with a graph good for the masks' gradients only; cheaper than `run`."""
        prediction: Tensor = self.recorded.run(self.forward, masks, needs_parameter_gradients=False)
        return prediction


@dataclass(frozen=True)
class Penalty:
    """What a regularizer found.

    Attributes:
        value: the penalty before its weight, a scalar with a graph.
        metrics: numbers to log, by name.
    """

    value: Tensor
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)


class Regularizer(ABC):
    """Decides which masks two passes use, and compares their predictions.

    Attributes:
        share_masks: whether its passes draw the same noise elsewhere in the network as the base pass.
        needs_target: whether it asks for the labels.
    """

    share_masks: bool = False
    needs_target: bool = False

    @property
    def active(self) -> bool:
        """False if the penalty is always 0, so that no pass needs to be made."""
        return True

    @abstractmethod
    def penalty(self, passes: Passes) -> Penalty:
        """Makes its passes and returns the penalty.

        Args:
            passes: the base pass and the means to make others.
        """

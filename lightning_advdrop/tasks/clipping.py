"""Clipping gradients as an experiment was published."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lightning.pytorch import LightningModule
from torch.optim import Optimizer


class PublishedClipping(LightningModule, ABC):
    """A task that clips its gradients itself, as its experiment was published, unless the trainer was told how to.

    Example:
        >>> class Task(PublishedClipping):
        ...     def clip_as_published(self, optimizer):
        ...         self.clip_gradients(optimizer, 0.25, "norm")
    """

    @abstractmethod
    def clip_as_published(self, optimizer: Optimizer) -> None:
        """Clips the gradients of an optimizer's parameters.

        Args:
            optimizer: the optimizer, whose step comes next.
        """

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as the trainer was told to, else as published."""
        if gradient_clip_val is None:
            self.clip_as_published(optimizer)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

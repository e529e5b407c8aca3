"""Batches of random lengths under a trainer's limit of batches."""

from __future__ import annotations

from typing import Any

from lightning_advdrop.datamodules.contiguous import ContiguousBatches

# A second or two for texts of a million words; later epochs are checked when they start.
_EPOCHS_AHEAD = 10_000


class LimitedBatches(ContiguousBatches):
    """Contiguous batches of which a trainer uses at most ``limit`` in each epoch.

    Lightning learns of no length, and so would take an epoch that has fewer batches than its limit for unfinished, and
    skip its validation. Each epoch is checked when it starts, and the epochs to come with :meth:`check_limit`.

    Args:
        *args: Arguments of `ContiguousBatches`.
        limit: Most batches of an epoch; ``None`` for no limit.
        **kwargs: Further arguments of `ContiguousBatches`.

    Example:
        >>> import numpy
        >>> loader = LimitedBatches(numpy.arange(401), batch_size=1, length=10, random_lengths=True, limit=41)
        >>> [loader.batches_in(epoch) for epoch in range(7)]
        [41, 43, 42, 44, 42, 41, 39]
        >>> loader.check_limit(range(6))
    """

    def __init__(self, *args: Any, limit: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = limit

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, at least 0; ``ValueError`` if it has fewer batches than ``limit``."""
        super().set_epoch(epoch)
        self.check_limit(range(epoch, epoch + 1))

    def check_limit(self, epochs: range) -> None:
        """Check that none of these epochs, the first 10,000 of them, has fewer batches than ``limit``.

        Raises:
            ValueError: If one has; it names the one that has the fewest.
        """
        if self.limit is None or self.limit <= self.fewest_batches:
            return
        fewest, epoch = min(((self.batches_in(epoch), epoch) for epoch in epochs[:_EPOCHS_AHEAD]), default=(None, 0))
        if fewest is not None and fewest < self.limit:
            raise ValueError(
                f"limit_train_batches must be at most {fewest}, the batches of epoch {epoch}, or 1.0 for all batches of"
                f" each epoch where random_lengths=True, got {self.limit}"
            )

"""Leaving out the time steps that the model's own loss ignores."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from lightning_advdrop.callbacks.comparing import ComparingCallback
from lightning_advdrop.functional import IGNORED_LABEL
from lightning_advdrop.regularizers import Passes
from lightning_advdrop.regularizers.losses import labels_of
from lightning_advdrop.regularizers.predictions import Target


class IgnoringCallback(ComparingCallback):
    """A callback that compares predictions without the time steps whose label the model's loss ignores, as padding."""

    target: Target
    # Whether the batch has the labels that the model's loss gets, where it ignores some; None before a step told it.
    _batch_has_labels: bool | None = None
    _warned_of_ignored = False

    def forget_comparison(self) -> None:
        """Decide anew, in another fit."""
        super().forget_comparison()
        self._batch_has_labels, self._warned_of_ignored = None, False

    @property
    def ignores(self) -> bool:
        """Tell whether the model's loss ignores an index of its own."""
        return self.comparison is not None and self.comparison.ignore_index != IGNORED_LABEL

    @property
    def needs_losses(self) -> bool:
        """Tell whether the losses of a step are to be seen, since only they tell which steps are ignored."""
        return self.ignores and not self._batch_has_labels

    def with_ignored(self, call: Passes, *, needs_target: bool = False) -> Passes:
        """Give passes the labels that the model's loss gets, where it ignores some; else those of the batch.

        Args:
            call: the passes, with the losses of the step.
            needs_target: whether the labels of the batch are needed as they are.
        """
        found = self.comparison
        if found is None or not found.ignores_steps(call.base):
            return call
        if needs_target:
            self._batch_has_labels = True
            return call
        in_batch = call.target is not None and found.has_labels(call.base, call.target)
        labels = labels_of(call.losses, found.read(call.base))
        if labels is not None:
            # What has the labels' shape in the batch may be a mask or the numbers of segments.
            same = in_batch and call.target is not None and torch.equal(labels, call.target.to(labels))
            self._batch_has_labels = same and self._batch_has_labels is not False
        elif in_batch and self._batch_has_labels is not False:
            self._batch_has_labels, labels = True, call.target
        elif self.padding_mask is None:
            self._warn_of_ignored(found.ignore_index)
        return replace(call, target=labels)

    def _warn_of_ignored(self, index: int) -> None:
        if not self._warned_of_ignored:
            self._warned_of_ignored = True
            warnings.warn(
                f"ignore_index: the model's loss leaves out what is labelled {index}, but neither its call nor "
                f"target={self.target!r} shows the labels of the compared prediction, so that its steps are compared; "
                "name padding_mask=, or a target= that makes labels of the prediction's leading shape.",
                stacklevel=2,
            )

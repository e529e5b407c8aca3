"""The mean of several predictions: of their probabilities, or of their values."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.functional.means import as_float
from lightning_advdrop.regularizers.comparison import Comparison


class MeanPrediction:
    """Average predictions one after the other, so that only their mean is kept.

    The mean of classes and of labels is that of their probabilities, computed by their logarithms. The mean of numbers,
    and of logits that are compared as they are (``mse``, ``mse_logits``), is that of the values. Divergences are convex
    in these, so that the divergence of the mean prediction is at most the mean of the divergences.

    Args:
        comparison: how the predictions are read, see `lightning_advdrop.regularizers.decide`.

    Example:
        >>> mean = MeanPrediction(Comparison("kl", "kl", "classes", dims=2))
        >>> for logits in ([[0.0, 0.0]], [[0.0, math.log(3)]]):  # probabilities 1/2, 1/2 and 1/4, 3/4
        ...     mean.add(torch.tensor(logits))
        >>> mean.value().softmax(-1)
        tensor([[0.3750, 0.6250]])
    """

    def __init__(self, comparison: Comparison) -> None:
        self._class_dim = comparison.class_dim
        self._each = comparison.kind == "labels" or comparison.dims == 1
        self._by_value = comparison.probabilities or comparison.divergence in {"mse", "mse_logits"}
        self._total: Tensor | None = None
        self._count = 0

    def add(self, prediction: Tensor) -> None:
        """Add a prediction ``(B, ...)``, all of one shape."""
        part = self._part(as_float(prediction))
        self._count += 1
        if self._total is None:
            self._total = part
        else:
            self._total = self._total + part if self._by_value else torch.logaddexp(self._total, part)

    def value(self) -> Tensor:
        """Return the mean in the form of the predictions: as logits where they are logits.

        Raises:
            ValueError: if no prediction was added.
        """
        if self._total is None:
            raise ValueError("value needs at least one prediction, got none; call add first.")
        if self._by_value:
            return self._total / self._count
        if self._each:
            return self._total[0] - self._total[1]
        return self._total - math.log(self._count)

    def _part(self, prediction: Tensor) -> Tensor:
        """Return what is summed up: values, or log-probabilities (of labels for 1 and for 0)."""
        if self._by_value:
            return prediction
        self._each = self._each or prediction.shape[self._class_dim] == 1
        if self._each:
            return torch.stack([F.logsigmoid(prediction), F.logsigmoid(-prediction)])
        return prediction.log_softmax(self._class_dim)

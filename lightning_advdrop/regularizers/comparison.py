"""How a prediction is read and compared: which divergence, where its classes are, logits or probabilities."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_advdrop.functional import IGNORED_LABEL, Direction, DivergenceName, divergence, mse
from lightning_advdrop.regularizers.losses import Kind

DivergenceChoice = Literal["auto", "kl", "bernoulli_kl", "mse", "mse_logits", "mse_probs", "ce", "bernoulli_ce"]
"""A divergence of `lightning_advdrop.functional.divergence`, or ``auto`` for the one that fits the prediction."""

OF_LABELS = ("ce", "bernoulli_ce")
"""The divergences that compare one prediction to the labels."""


@dataclass(frozen=True)
class Comparison:
    """How a prediction is read, and compared with another one or with labels.

    `lightning_advdrop.regularizers.decide` makes one.

    Attributes:
        asked: the divergence that was asked for.
        divergence: the divergence.
        kind: what the prediction describes: exclusive ``classes``, several ``labels`` (or one), or ``numbers``.
        dims: the number of the prediction's dimensions, the first of which holds the examples.
        class_dim: the dimension that holds the classes.
        probabilities: whether it holds probabilities instead of logits.
        ignore_index: the class index of examples without a label.
        loss: the loss function of the model from which this was decided, None for none.

    Example:
        >>> one_logit = Comparison("auto", "bernoulli_kl", "labels", dims=1)
        >>> one_logit.read(torch.zeros(3)).shape
        torch.Size([3, 1])
        >>> print(one_logit)
        as one logit each (bernoulli_kl)
    """

    asked: DivergenceChoice
    divergence: DivergenceName
    kind: Kind
    dims: int
    class_dim: int = -1
    probabilities: bool = False
    ignore_index: int = IGNORED_LABEL
    loss: str | None = None

    def __str__(self) -> str:
        """Describe it in a few words."""
        what = "logits" if self.divergence == "mse_logits" else str(self.kind)
        if self.dims == 1 and self.kind != "numbers":
            what = "one probability each" if self.probabilities else "one logit each"
        elif self.probabilities:
            what = "class probabilities" if self.kind == "classes" else "label probabilities"
        held = "labels" if self.kind == "labels" else "classes"
        where = "" if self.class_dim == -1 else f", {held} in dimension {self.class_dim}"
        ignored = "" if self.ignore_index == IGNORED_LABEL else f", without what is labelled {self.ignore_index}"
        return f"as {what} ({self.divergence}){where}{ignored}"

    def state_dict(self) -> dict[str, Any]:
        """Return the attributes, which `Comparison` takes, for a checkpoint."""
        return asdict(self)

    def read(self, prediction: Tensor) -> Tensor:
        """Bring a prediction into the form that divergences take: logits ``(..., classes)``; numbers stay as they are.

        Args:
            prediction: ``(B, ...)``.

        Raises:
            ValueError: if it has another number of dimensions than the one by which this was decided.
        """
        if prediction.dim() != self.dims:
            raise ValueError(
                f"output: the prediction must have as many dimensions as in the first step, {self.dims}, got the "
                f"shape {tuple(prediction.shape)}; a batch of one example loses one by squeeze(), not by squeeze(-1)."
            )
        if self.divergence == "mse":
            return prediction
        if self.class_dim != -1 and prediction.requires_grad:
            # In the prediction's memory layout, its gradient is summed with others in the order of plain training.
            prediction = prediction.view_as(prediction)
            prediction.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call]
        logits = prediction.unsqueeze(-1) if self.dims == 1 else prediction.movedim(self.class_dim, -1)
        if not self.probabilities:
            return logits
        logits = logits if logits.dtype is torch.float64 else logits.float()
        limits = torch.finfo(logits.dtype)
        if self.kind == "labels" or logits.shape[-1] == 1:
            return logits.logit(limits.eps)
        return logits.clamp_min(limits.tiny).log()

    def labels(self, target: Tensor, logits: Tensor) -> Tensor:
        """Bring labels into the form that goes with a prediction that was read."""
        if self.class_dim != -1 and target.dim() == self.dims:
            target = target.movedim(self.class_dim, -1)
        if target.shape != logits.shape or target.is_floating_point():
            return target
        # Whole numbers of the prediction's shape: one for each label.
        return target.squeeze(-1) if logits.shape[-1] == 1 else target.float() if self.kind == "labels" else target

    def distance(
        self,
        base: Tensor,
        other: Tensor,
        direction: Direction,
        *,
        target: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Compute the divergence between two predictions, a scalar.

        Args:
            base: the base prediction, ``(B, ...)``.
            other: the other one, of the same shape.
            direction: ``base_adv`` for ``D(base, other)``, or ``adv_base`` for ``D(other, base)``.
            target: the labels, for ``ce`` and ``bernoulli_ce``.
            sample_weight: weights of the examples and time steps.

        Raises:
            ValueError: as `lightning_advdrop.functional.divergence`, and for another number of dimensions.
        """
        first, second = self.read(base), self.read(other)
        if self.divergence == "mse_probs" and self.kind == "labels":
            return mse(first.sigmoid(), second.sigmoid(), sample_weight)
        if target is not None and self.divergence in OF_LABELS:
            target = self.labels(target, second)
        return divergence(
            self.divergence,
            direction,
            first,
            second,
            target=target,
            sample_weight=sample_weight,
            ignore_index=self.ignore_index,
        )

    def loss_to(self, prediction: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Compute the supervised loss of a prediction: the cross-entropy, or the mean squared error of numbers.

        Args:
            prediction: ``(B, ...)``.
            target: the labels, or the numbers that were to be predicted.
            sample_weight: weights of the examples and time steps.

        Raises:
            ValueError: if the labels don't go with the prediction, or the model's own loss of numbers is another one.
        """
        if self.kind != "numbers":
            logits = self.read(prediction)
            name: DivergenceName = "bernoulli_ce" if self.kind == "labels" else "ce"
            return divergence(
                name,
                "base_adv",
                logits,
                logits,
                target=self.labels(target, logits),
                sample_weight=sample_weight,
                ignore_index=self.ignore_index,
            )
        if self.loss not in {None, "mse_loss"}:
            raise ValueError(
                f"divergence={self.asked!r}: the loss of a second pass over numbers must be mse_loss, got {self.loss} "
                "in the model; use a method without a loss of its own (for R-Drop both_losses=False)."
            )
        if target.shape != prediction.shape and target.squeeze().shape == prediction.squeeze().shape:
            target = target.reshape(prediction.shape)
        if target.shape != prediction.shape or not target.is_floating_point():
            raise ValueError(
                f"target must be floating-point numbers of the prediction's shape {tuple(prediction.shape)} where it "
                f"is compared as numbers, got {target.dtype} of the shape {tuple(target.shape)}; for class labels name "
                "divergence='kl' (or 'ce')."
            )
        return mse(prediction, target, sample_weight)

    def weights(self, prediction: Tensor, target: Tensor | None, sample_weight: Tensor | None) -> Tensor | None:
        """Leave time steps out whose label the model's loss ignores by an index of its own, as padding.

        Examples without a label, of index -100, stay in: a divergence needs no labels.
        """
        if target is None or not self.ignores_steps(prediction) or not self.has_labels(prediction, target):
            return sample_weight
        real = target != self.ignore_index
        return real if sample_weight is None else torch.where(real, torch.broadcast_to(sample_weight, real.shape), 0)

    def ignores_steps(self, prediction: Tensor) -> bool:
        """Tell whether time steps of a prediction are left out by an index of the model's loss."""
        return self.ignore_index != IGNORED_LABEL and self.kind == "classes" and prediction.dim() > 2

    def has_labels(self, prediction: Tensor, target: Tensor) -> bool:
        """Tell whether a tensor holds a class label for each time step of a prediction."""
        return not target.is_floating_point() and target.shape == self.read(prediction).shape[:-1]

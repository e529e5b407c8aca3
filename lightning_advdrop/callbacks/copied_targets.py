"""Warn of labels that are the model's own input, or others than its loss gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_advdrop.functional import IGNORED_LABEL
from lightning_advdrop.regularizers.losses import SeenLoss, labels_of
from lightning_advdrop.regularizers.predictions import Target


def model_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return what a forward gets as its input: ``input_ids``, else the first tensor; None if there is none.

    Args:
        args: the positional arguments of the forward.
        kwargs: the others.
    """
    if "input_ids" in kwargs:
        return model_input((kwargs["input_ids"],), {})
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, Tensor):
            return argument
        if isinstance(argument, Mapping):
            return model_input((), argument)
        if isinstance(argument, (list, tuple)):
            return model_input(argument, {})
    return None


def warn_of_copying(target: Tensor, given: Tensor | None, place: Target) -> bool:
    """Warn if the labels of sequences are the tokens that the model gets, so that a loss would train it to copy them.

    Args:
        target: the labels, ``(B, ...)``.
        given: the model's input.
        place: where the labels were found, for the message.

    Returns:
        Whether it warned.
    """
    if given is None or target.dim() < 2 or target.is_floating_point() or target.shape != given.shape:
        return False
    copied = target.device == given.device and bool(((target == given) | (target == IGNORED_LABEL)).all())
    if copied:
        rank_zero_warn(
            f"target={place!r} leads to the model's own input, so that the regularizer's loss trains it to copy tokens "
            "instead of predicting the next ones; causal language models of Hugging Face shift their labels inside. "
            "Give target= a callable that shifts them: lambda batch: "
            f"torch.nn.functional.pad(batch['labels'][:, 1:], (0, 1), value={IGNORED_LABEL})."
        )
    return copied


def warn_of_other_labels(target: Tensor, logits: Tensor, losses: Iterable[SeenLoss], place: Target) -> None:
    """Warn if the labels of a batch are others than those that the model's own loss gets for the same prediction.

    Not if one of several losses gets them, and not by what either leaves out. Probabilities are no class labels.

    Args:
        target: the labels that were found in the batch.
        logits: the prediction, ``(B, ..., classes)``.
        losses: the losses that the model called.
        place: where the labels were found, for the message.
    """
    if target.is_floating_point() or target.dtype is torch.bool:
        return
    found = [(loss, _differing(loss, target)) for loss in losses]
    if all(values is None for _, values in found):
        return  # before the logits are compared, which may be large
    found = [(loss, values) for loss, values in found if labels_of([loss], logits) is not None]
    differing = [(loss.name, values) for loss, values in found if values is not None]
    if not differing or len(differing) < len(found):
        return
    name, (here, there) = differing[0]
    rank_zero_warn(
        f"target={place!r} must lead to the labels, got {here} where the model's own {name} gets {there} for the same "
        "prediction, so that the regularizer's loss trains it on other labels; name an index, a key or a callable that "
        "picks those of the model (target=)."
    )


def _differing(loss: SeenLoss, target: Tensor) -> tuple[float, float] | None:
    """Return the first label that is another one in the batch and in a loss; None if none is."""
    if loss.target is None or loss.target.numel() != target.numel():
        return None
    labels = loss.target.flatten()
    given = target.to(labels).flatten()
    off = (given != labels) & (labels != loss.ignore_index) & (given != IGNORED_LABEL)
    return (given[off][0].item(), labels[off][0].item()) if off.any() else None

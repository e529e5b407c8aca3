"""Warn of labels that are the model's own input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_advdrop.functional import IGNORED_LABEL
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


def warn_of_copying(target: Tensor, given: Tensor | None, place: Target) -> None:
    """Warn if the labels of sequences are the tokens that the model gets, so that a loss would train it to copy them.

    Args:
        target: the labels, ``(B, ...)``.
        given: the model's input.
        place: where the labels were found, for the message.
    """
    if given is None or target.dim() < 2 or target.is_floating_point() or target.shape != given.shape:
        return
    if target.device == given.device and bool(((target == given) | (target == IGNORED_LABEL)).all()):
        rank_zero_warn(
            f"target={place!r} leads to the model's own input, so that the regularizer's loss trains it to copy tokens "
            "instead of predicting the next ones; causal language models of Hugging Face shift their labels inside. "
            "Give target= a callable that shifts them: lambda batch: "
            f"torch.nn.functional.pad(batch['labels'][:, 1:], (0, 1), value={IGNORED_LABEL})."
        )

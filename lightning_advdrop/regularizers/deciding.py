"""Decide how a prediction is compared: from the model's own loss, else from the labels, else ask."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from lightning_advdrop.functional import IGNORED_LABEL, DivergenceName
from lightning_advdrop.regularizers.comparison import OF_LABELS, Comparison, DivergenceChoice
from lightning_advdrop.regularizers.losses import Kind, SeenLoss, are_same_rows, is_derived, is_same
from lightning_advdrop.regularizers.predictions import other_parts

# The divergence of two predictions that goes with each kind, and the one to labels; the first kind is preferred.
_AUTO: dict[Kind, tuple[DivergenceName, DivergenceName]] = {
    "classes": ("kl", "ce"),
    "labels": ("bernoulli_kl", "bernoulli_ce"),
    "numbers": ("mse", "mse"),
}
_TAKES: dict[DivergenceChoice, Kind] = {
    "kl": "classes",
    "mse_probs": "classes",
    "ce": "classes",
    "bernoulli_kl": "labels",
    "bernoulli_ce": "labels",
}
# How far the probabilities of an example may sum from 1.
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-4}


class UndecidedError(ValueError):
    """Raised by ``divergence="auto"`` where it can't tell."""


def decide(
    asked: DivergenceChoice,
    prediction: Tensor,
    target: Tensor | None = None,
    losses: Sequence[SeenLoss] = (),
    *,
    class_dim: int | None = None,
    ignore_index: int | None = None,
    to_labels: bool = False,
    result: Any = None,
) -> Comparison:
    """Decide how a prediction is compared.

    ``auto`` goes by the loss function that the model calls on the prediction: exclusive classes are compared by ``kl``,
    several labels (or one logit) by ``bernoulli_kl``, numbers by ``mse``. Where no known loss is called, it goes by the
    labels: class indices of the prediction's leading shape, or floating-point numbers of its whole shape.

    Args:
        asked: the divergence, or ``auto``.
        prediction: a prediction, ``(B, ...)``. One dimension is one logit, or number, for each example.
        target: the labels, if there are any.
        losses: the losses that the model called in this step.
        class_dim: the dimension of the prediction that holds the classes, not 0. None takes that of the model's loss or
            of the labels, else the last; of several labels, 1 where there are four dimensions or more.
        ignore_index: the class index of examples without a label. None takes that of the model's loss, else -100.
        to_labels: whether one prediction is compared with labels, instead of two predictions.
        result: what the forward returned, for an error that names the part of it that the losses read.

    Raises:
        ValueError: if ``auto`` can't tell, ``class_dim`` is no such dimension, or the prediction's first dimension is
            not that of the examples.

    Example:
        >>> print(decide("auto", torch.zeros(4, 3), target=torch.tensor([0, 1, 2, 0])))
        as classes (kl)
        >>> print(decide("auto", torch.randn(4, 12), target=torch.randn(4, 12)))
        as numbers (mse)
    """
    _check_examples(asked, prediction, target)
    loss = _loss_of(losses, prediction)
    dim = None if class_dim is None else _checked(class_dim, prediction)
    if asked != "auto":
        kind = _named_kind(asked, prediction, loss) if asked != "mse_logits" else _logits_kind(prediction, target, loss)
        name: DivergenceName = "bernoulli_ce" if (asked, kind) == ("ce", "labels") else asked
    else:
        if loss is None and losses:
            others = ", ".join(sorted({f"{each.name} {tuple(each.input.shape)}" for each in losses}))
            why = f"the model's losses read something else ({others})"
            _ask(prediction, why, to_labels, _other_part(result, prediction, losses))
        kind = _kind_by(target, prediction, dim, to_labels) if loss is None else loss.kind
        name = _AUTO[kind][to_labels]
    if dim is None:
        dim = _class_dim(kind, prediction, loss, target)
    if ignore_index is None:
        ignore_index = IGNORED_LABEL if loss is None else loss.ignore_index
    by = None if loss is None else loss.name
    read = Comparison(asked, name, kind, prediction.dim(), dim, ignore_index=ignore_index, loss=by)
    return _with_probabilities(read, prediction, loss)


def of_two_predictions(comparison: Comparison) -> Comparison:
    """Compare two predictions as ``auto`` would where a comparison with labels was decided; else the same.

    Args:
        comparison: how one regularizer compares.
    """
    name = comparison.divergence
    if name in OF_LABELS:
        name = _AUTO[comparison.kind][0]
    return replace(comparison, asked="auto", divergence=name)


def _check_examples(asked: DivergenceChoice, prediction: Tensor, target: Tensor | None) -> None:
    """Refuse a vector that is not one number for each example."""
    if prediction.dim() != 1 or target is None or target.dim() == 0 or len(target) == len(prediction):
        return
    if asked == "auto" or len(target) == 1:
        raise ValueError(
            f"output: a prediction of one dimension must hold one logit or number for each example, got the shape "
            f"{tuple(prediction.shape)} for {len(target)} labels; keep the batch dimension first, (batch, ...): a "
            "batch of one example loses it by squeeze(), and keeps it by squeeze(-1)."
        )


def _checked(class_dim: int, prediction: Tensor) -> int:
    dims = prediction.dim()
    if not -dims < class_dim < dims or class_dim == 0:
        raise ValueError(
            f"class_dim must be a dimension of the prediction {tuple(prediction.shape)} other than 0, got {class_dim}."
        )
    return -1 if class_dim % dims == dims - 1 else class_dim % dims


# By the model's loss.


def _loss_of(losses: Sequence[SeenLoss], prediction: Tensor) -> SeenLoss | None:
    """Find the loss that reads the prediction: as it is in another shape, else a part of it or its softmax."""
    as_it_is = [loss for loss in losses if is_same(loss.input, prediction)]
    found = [loss for loss in as_it_is or losses if _fits(loss, prediction)]
    if not as_it_is and len({loss.kind for loss in found}) > 1:
        return None
    return min(found, key=lambda loss: list(_AUTO).index(loss.kind), default=None)


def _fits(loss: SeenLoss, prediction: Tensor) -> bool:
    derived = is_derived(loss.input, prediction)
    same_number = loss.input.numel() == prediction.numel()
    if derived is False and not (same_number and is_same(loss.input, prediction)):
        return False
    return bool(_class_dims(loss, prediction)) if loss.kind == "classes" else derived or same_number


def _class_dims(loss: SeenLoss, prediction: Tensor) -> list[int]:
    if loss.input.dim() == 0:
        return []
    classes = loss.input.shape[loss.class_dim]
    return [dim for dim in range(1, prediction.dim()) if prediction.shape[dim] == classes]


def _class_dim(kind: Kind, prediction: Tensor, loss: SeenLoss | None, target: Tensor | None) -> int:
    if kind != "classes":  # of a map, (B, labels, H, W), the other dimensions are places
        return 1 if kind == "labels" and prediction.dim() > 3 else -1
    last = prediction.dim() - 1
    if loss is not None and loss.kind == "classes":
        found = _class_dims(loss, prediction)
        if len(found) > 1:
            found = [dim for dim in found if _is_read_along(dim, loss, prediction)] or found
        dim = loss.class_dim if loss.input.shape == prediction.shape and loss.class_dim in found else found[-1]
    else:
        dim = max(_dims_by(target, prediction), default=last)
    return -1 if dim == last else dim


def _is_read_along(dim: int, loss: SeenLoss, prediction: Tensor) -> bool:
    values, rows = (
        values.detach().movedim(at, -1).reshape(-1, prediction.shape[dim])
        for values, at in ((loss.input, loss.class_dim), (prediction, dim))
    )
    return values.shape == rows.shape and are_same_rows(values, rows)


def _named_kind(asked: DivergenceChoice, prediction: Tensor, loss: SeenLoss | None) -> Kind:
    """Tell what the prediction describes where the divergence is named, and warn where the model's loss disagrees."""
    takes = _TAKES.get(asked, "numbers")
    if loss is None or takes in {loss.kind, "numbers"}:
        return takes
    one = prediction.dim() == 1 or prediction.shape[-1] == 1
    if loss.kind == "labels" and (one or asked in {"mse_probs", "ce"}):
        return "labels"
    if loss.kind == "numbers" or not one:
        warnings.warn(
            f"divergence={asked!r} reads the prediction {tuple(prediction.shape)} as {takes}, but the model's "
            f"{loss.name} reads it as {loss.kind}; name divergence={_AUTO[loss.kind][asked in OF_LABELS]!r} or 'auto'.",
            stacklevel=2,
        )
    return takes


def _logits_kind(prediction: Tensor, target: Tensor | None, loss: SeenLoss | None) -> Kind:
    """Tell what logits describe: no matter to their own comparison, but to a loss of the second pass."""
    if loss is not None:
        return loss.kind
    try:
        return _kind_by(target, prediction, None, to_labels=False)
    except UndecidedError:
        return "numbers"


# By the labels.


def _kind_by(target: Tensor | None, prediction: Tensor, class_dim: int | None, to_labels: bool) -> Kind:
    if target is None:
        _ask(prediction, "no known loss is seen and there are no labels (target=)", to_labels)
    if target.squeeze().shape == prediction.squeeze().shape:
        return _kind_of_each(target, prediction, to_labels)
    found = _dims_by(target, prediction, class_dim)
    if not found:
        _ask(prediction, f"its labels are {target.dtype} of the shape {tuple(target.shape)}", to_labels)
    if len(found) > 1:
        _ask(prediction, f"its classes may be in dimension {found[0]} or {found[1]} (class_dim=)", to_labels)
    labels = target[target != IGNORED_LABEL]
    if labels.numel() and not (labels.min() >= 0 and labels.max() < prediction.shape[found[0]]):
        _ask(prediction, f"its labels go from {labels.min().item()} to {labels.max().item()}", to_labels)
    return "classes"


def _kind_of_each(target: Tensor, prediction: Tensor, to_labels: bool) -> Kind:
    """Tell the kind by labels of the prediction's own shape."""
    binary = bool(((target == 0) | (target == 1) | (target == IGNORED_LABEL)).all())
    if not target.is_floating_point():
        if not binary:
            _ask(prediction, f"its labels are whole numbers up to {target.max().item()}", to_labels)
        return "labels"
    if binary:
        _ask(prediction, "its labels are all 0.0 or 1.0", to_labels)
    if target.dim() > 1 and target.shape[-1] > 1 and _sum_to_one(target):
        _ask(prediction, "its labels may be class probabilities", to_labels)
    return "numbers"


def _dims_by(target: Tensor | None, prediction: Tensor, class_dim: int | None = None) -> list[int]:
    """Return the dimensions that may hold the classes by the shape of class labels: the last, or 1 as torch has it."""
    if target is None or target.is_floating_point() or target.dtype is torch.bool:
        return []
    shape, last = prediction.shape, prediction.dim() - 1
    allowed = {min(1, last), last} if class_dim is None else {class_dim % (last + 1)}
    return [dim for dim in sorted(allowed) if dim and target.shape == shape[:dim] + shape[dim + 1 :]]


def _other_part(result: Any, prediction: Tensor, losses: Sequence[SeenLoss]) -> str:
    """Say which part of a forward's result is the prediction instead; nothing where it has no others."""
    others = other_parts(result, prediction)
    read = [which for which, part in others.items() if any(_reads(loss, part) for loss in losses)]
    if read:
        return f"name the part of the output that they read, output={' or '.join(map(repr, read))}, or "
    return "name the part of the output that is the prediction (output=), or " if others else ""


def _reads(loss: SeenLoss, part: Tensor) -> bool:
    return loss.input is part or bool(is_derived(loss.input, part))


def _ask(prediction: Tensor, why: str, to_labels: bool, instead: str = "") -> NoReturn:
    one = prediction.dim() == 1 or prediction.shape[-1] == 1
    words: Iterable[tuple[Kind, str]] = (("labels", "one logit each"), ("numbers", "numbers"))
    if not one:
        words = (("classes", "exclusive classes"), ("labels", "several labels"), ("numbers", "numbers"))
    *first, last = (f"{_AUTO[kind][to_labels]!r} for {what}" for kind, what in words)
    argument = "loss" if to_labels else "divergence"
    choices = f"{', '.join(first)} or {last}"
    raise UndecidedError(
        f"{argument}='auto' can't tell what the prediction of the shape {tuple(prediction.shape)} describes, since "
        f"{why}; {instead}name {argument}={choices}."
    )


# Logits or probabilities.


def _with_probabilities(read: Comparison, prediction: Tensor, loss: SeenLoss | None) -> Comparison:
    if read.divergence in {"mse", "mse_logits"}:
        return read
    values = read.read(prediction.detach())
    if read.kind == "labels" or values.shape[-1] == 1:
        found = loss is not None and loss.name == "binary_cross_entropy" and _within(values)
        found = found and loss is not None and not is_same(loss.input, prediction.sigmoid())
    else:
        found = _sum_to_one(values)
    return replace(read, probabilities=bool(found))


def _within(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _sum_to_one(values: Tensor) -> bool:
    if not values.numel() or values.min() < 0:
        return False
    off = values.sum(-1, dtype=torch.float32) - 1
    return bool(off.abs().max() <= _ROUNDING.get(values.dtype, 1e-2))

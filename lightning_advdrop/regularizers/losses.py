"""See which loss functions a training step calls, and on what."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_advdrop.functional import IGNORED_LABEL

Kind = Literal["classes", "labels", "numbers"]
"""What a prediction describes: exclusive classes, several labels (or one) that are each true or not, or numbers."""

_NAMES: dict[Kind, tuple[str, ...]] = {
    "classes": ("cross_entropy", "nll_loss", "ctc_loss", "kl_div", "multi_margin_loss"),
    "labels": (
        *("binary_cross_entropy", "binary_cross_entropy_with_logits", "soft_margin_loss"),
        *("multilabel_margin_loss", "multilabel_soft_margin_loss"),
    ),
    "numbers": (
        *("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "gaussian_nll_loss", "poisson_nll_loss"),
        "linear_cross_entropy",  # its input are features, before the weights that make logits of them
    ),
}
_KINDS: dict[Callable[..., Any], Kind] = {
    getattr(F, name): kind for kind, names in _NAMES.items() for name in names if hasattr(F, name)
}
# The first argument of each is the prediction, under one of these names.
_INPUTS = ("input", "log_probs")


@dataclass(frozen=True)
class SeenLoss:
    """A call of a loss function.

    Attributes:
        name: the function's name in ``torch.nn.functional``.
        kind: what it takes its input for.
        input: the input.
        ignore_index: the class index that it leaves out.
        target: what the input is compared with; None if that is no tensor.
    """

    name: str
    kind: Kind
    input: Tensor
    ignore_index: int = IGNORED_LABEL
    target: Tensor | None = None

    @property
    def class_dim(self) -> int:
        """The dimension of its input that holds the classes."""
        return 1 if self.name in {"cross_entropy", "nll_loss"} and self.input.dim() > 1 else -1


class LossWatch(TorchFunctionMode):
    """A function mode that notes the calls of known loss functions, and changes nothing.

    Attributes:
        seen: the calls, in their order. They hold their inputs, so that the watch should not outlive the step.

    Example:
        >>> with LossWatch() as watch:
        ...     _ = torch.nn.CrossEntropyLoss()(torch.zeros(2, 3), torch.tensor([0, 1]))
        >>> [(loss.name, loss.kind) for loss in watch.seen]
        [('cross_entropy', 'classes')]
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[SeenLoss] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the call if it is one of a loss."""
        if func in _KINDS:
            self._note(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inspect.signature(func).bind(*args, **kwargs).arguments
        value = next((given[name] for name in _INPUTS if name in given), None)
        if isinstance(value, Tensor):
            ignored = given.get("ignore_index", IGNORED_LABEL)
            target = given.get("target")
            known = target if isinstance(target, Tensor) else None
            self.seen.append(SeenLoss(func.__name__, _KINDS[func], value, ignored, known))


_ROUNDING = 1e-5
# How the names of graph nodes begin that pass values on: in another shape, in part, changed one by one or by a softmax.
_SHAPES = ("View", "Unsafe", "Reshape", "Alias", "Transpose", "T", "Permute", "Squeeze", "Unsqueeze", "Expand", "Clone")
_PARTS = ("Slice", "Select", "Index", "Masked", "Gather", "Split", "Unbind", "Cat", "Stack", "ToCopy", "AsStrided")
_VALUES = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Exp", "Log", "Clamp", "Where", "Tanh", "Sigmoid", "Softmax")
_WEIGHTS = ("Addmm", "Addbmm", "Addmv", "Addr")
_STEPS = 24  # nodes at most that are looked at


def is_same(value: Tensor, prediction: Tensor) -> bool:
    """Tell whether a tensor is another one, in any shape, order of its elements, and precision that loses nothing.

    Equal are their number and the smallest and largest value.

    Example:
        >>> is_same(torch.arange(6.0).view(2, 3), torch.arange(6.0).view(3, 2).T)
        True
    """
    if value.numel() != prediction.numel() or not value.numel():
        return False
    first, second = (torch.stack(each.detach().double().aminmax()) for each in (value, prediction))
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


def labels_of(losses: Iterable[SeenLoss], logits: Tensor) -> Tensor | None:
    """Return the class labels that a loss compares logits with, in their shape.

    Args:
        losses: those that the model called.
        logits: ``(B, ..., classes)``.

    Returns:
        ``(B, ...)``; None where no loss reads these logits, in any shape that keeps their order, or their log-softmax.

    Example:
        >>> logits = torch.randn(2, 3, 5)
        >>> with LossWatch() as watch:
        ...     _ = F.cross_entropy(logits.reshape(-1, 5), torch.tensor([0, 1, 2, 3, 4, 0]), ignore_index=0)
        >>> labels_of(watch.seen, logits)
        tensor([[0, 1, 2],
                [3, 4, 0]])
    """
    rows = logits.detach().flatten(0, -2)
    for loss in losses:
        if loss.target is None or loss.target.is_floating_point() or loss.target.numel() != len(rows):
            continue
        values = loss.input.detach().movedim(loss.class_dim, -1)
        if values.numel() == rows.numel() and are_same_rows(values.reshape(rows.shape), rows):
            return loss.target.reshape(logits.shape[:-1])
    return None


def are_same_rows(values: Tensor, rows: Tensor) -> bool:
    """Tell whether two tensors hold the same logits, or one of them the log-softmax of the other.

    That differs by a number for each row.

    Args:
        values: ``(N, classes)``.
        rows: the same shape.

    Example:
        >>> rows = torch.randn(4, 3)
        >>> are_same_rows(rows.log_softmax(-1), rows), are_same_rows(rows.flip(0), rows)
        (True, False)
    """
    off = values.double() - rows.double()
    # Minus infinity, of excluded classes, is the same in both.
    off = torch.where(off.isnan(), off.nanmedian(-1, keepdim=True).values, off).nan_to_num(0.0)
    largest = rows.double().nan_to_num(0.0, 0.0, 0.0).abs().max()
    return bool((off.amax(-1) - off.amin(-1)).max() <= _ROUNDING * largest)


def is_derived(value: Tensor, prediction: Tensor) -> bool | None:
    """Tell whether a tensor was computed from another one without any weights between: a part of it, its softmax, ...

    Returns:
        None where there is no graph that could tell.
    """
    if value.grad_fn is None or prediction.grad_fn is None:
        return None
    return any(node is prediction.grad_fn for node in _behind(value.grad_fn))


def _behind(node: Any) -> Iterator[Any]:
    """Yield a node of a graph and those that it passes values on from."""
    found, names = [node], (*_SHAPES, *_PARTS, *_VALUES)
    for _ in range(_STEPS):
        if not found:
            return
        node = found.pop(0)
        yield node
        if node.name().startswith(names) and not node.name().startswith(_WEIGHTS):
            found += [before for before, _ in node.next_functions if before is not None]

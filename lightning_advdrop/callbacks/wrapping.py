"""Add the terms of callbacks to the loss of a training step that doesn't ask for them, by wrapping it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any, Protocol, TypeVar

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_advdrop.callbacks.predictions import add_to_loss
from lightning_advdrop.callbacks.recording import ForwardRecorder
from lightning_advdrop.callbacks.replacing import replaced
from lightning_advdrop.regularizers import Passes
from lightning_advdrop.regularizers.passes import uncompiled

# Attributes of a wrapped training step: the callbacks it serves, and the context in which the module has it.
_SERVED = "_regularizer_callbacks"
_WRAPPED = "_wrapped"


class AddsToLoss(Protocol):
    """What a training step needs of a callback, see `RegularizerCallback`."""

    def current_weight(self, trainer: Trainer) -> float:
        """Return the weight in the trainer's current epoch."""

    def recorder(self, pl_module: LightningModule) -> ForwardRecorder:
        """Make what records the forward passes of a training step."""

    def term(self, pl_module: LightningModule, calls: Sequence[Passes], batch: Any = None) -> Tensor | None:
        """Compute the callback's term of the loss."""


C = TypeVar("C", bound=AddsToLoss)


def wrap_training_step(pl_module: LightningModule, callback: AddsToLoss) -> None:
    """Make ``training_step`` add a callback's term to its loss, until `unwrap_training_step`.

    Args:
        pl_module: the module; several callbacks share one wrapper.
        callback: whose term is added.
    """
    served = getattr(pl_module.training_step, _SERVED, None)
    if served is not None:
        served.append(callback)
        return
    step = pl_module.training_step
    callbacks = [callback]

    @functools.wraps(step)
    def regularized_step(*args: Any, **kwargs: Any) -> Any:
        return _regularized_step(pl_module, callbacks, step, *args, **kwargs)

    setattr(regularized_step, _SERVED, callbacks)
    wrapped = ExitStack()
    wrapped.enter_context(replaced([(pl_module, "training_step", regularized_step)]))
    setattr(regularized_step, _WRAPPED, wrapped)


def unwrap_training_step(pl_module: LightningModule, callback: AddsToLoss) -> None:
    """Undo `wrap_training_step` for this callback, if it was done."""
    step = vars(pl_module).get("training_step")
    served = getattr(step, _SERVED, [])
    if callback in served:
        served.remove(callback)
        if not served:
            getattr(step, _WRAPPED).close()


def _regularized_step(
    pl_module: LightningModule,
    callbacks: Sequence[AddsToLoss],
    step: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    active = [callback for callback in callbacks if callback.current_weight(pl_module.trainer) > 0]
    recorders = {callback: callback.recorder(pl_module) for callback in active}
    with uncompiled() if active else nullcontext():
        with ExitStack() as watching:
            for recorder in recorders.values():
                watching.enter_context(recorder.recording())
            result = step(*args, **kwargs)
        if result is None:  # Lightning skips the step
            return None
        batch = kwargs["batch"] if "batch" in kwargs else args[0]
        calls = {callback: recorder.calls for callback, recorder in recorders.items()}
        penalty = total_penalty(pl_module, callbacks, calls, batch)
    return result if penalty is None else add_to_loss(result, penalty)


def total_penalty(
    pl_module: LightningModule,
    callbacks: Sequence[C],
    calls: Mapping[C, Sequence[Passes]],
    batch: Any = None,
) -> Tensor | None:
    """Add up the terms of callbacks, and log the sum; None if there is none.

    Args:
        pl_module: the module that is trained.
        callbacks: in the order of the trainer; those without calls add nothing.
        calls: the forward passes of a training step, for each callback.
        batch: the batch, in which labels and padding are found; None where the calls have them.
    """
    total: Tensor | None = None
    for callback in callbacks:
        term = callback.term(pl_module, calls.get(callback, []), batch)
        if term is not None:
            total = term if total is None else total + term
    if total is not None:
        batch_size = len([*calls.values()][-1][0].base)
        pl_module.log(
            "train/penalty", total.detach(), on_step=False, on_epoch=True, batch_size=batch_size, sync_dist=True
        )
    return total

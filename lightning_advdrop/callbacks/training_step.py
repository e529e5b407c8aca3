"""Getting penalties into a training step: by wrapping it, or because it asks for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_advdrop.callbacks.predictions import add_to_loss, select_prediction, select_target, select_weight
from lightning_advdrop.callbacks.recording import ForwardRecorder, RecordedCall
from lightning_advdrop.callbacks.replacing import replaced

if TYPE_CHECKING:
    from lightning_advdrop.callbacks.base import RegularizerCallback

# Attributes of a wrapped training step: the callbacks it serves, and the context in which the module has it.
_SERVED = "_regularizer_callbacks"
_WRAPPED = "_wrapped"


class RegularizedLoss(NamedTuple):
    """What `regularized_loss` returns.

    Attributes:
        total: the supervised loss plus the weighted penalties, a scalar to be minimised.
        supervised: the supervised loss alone.
        prediction: what the base pass returned.
    """

    total: Tensor
    supervised: Tensor
    prediction: Any


@torch.compiler.disable  # type: ignore[untyped-decorator]
def regularized_loss(
    pl_module: LightningModule,
    forward: Callable[[], Any],
    loss: Callable[[Any], Tensor],
    *,
    target: Tensor | None = None,
    weight: Tensor | None = None,
) -> RegularizedLoss:
    """A training step's loss with the penalties of all regularizers that the trainer has as callbacks.

    For modules with ``delegates_regularization = True``, to be called once in ``training_step``. Without such a
    callback it is ``loss(forward())``.

    Args:
        pl_module: the module, attached to a trainer.
        forward: computes the prediction ``(B, ..., classes)``, or returns something of which each callback's ``output``
            tells the prediction. It will be called again under masks, so it should do nothing else.
        loss: computes the supervised loss, a scalar, from what the base pass returned.
        target: the labels, for regularizers that need them.
        weight: weights of the examples and time steps, broadcastable to ``(B, ...)``; 0 for padding.

    Returns:
        The total and the supervised loss, and what the base pass returned.

    Example:
        >>> import torch
        >>> class Task(LightningModule):
        ...     delegates_regularization = True
        ...
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         mse = torch.nn.functional.mse_loss
        ...         return regularized_loss(self, lambda: self(x), lambda p: mse(p, y), target=y).total
    """
    callbacks = attached_regularizers(pl_module)
    active = [callback for callback in callbacks if callback.current_weight(pl_module.trainer) > 0]
    recorded = [callback.recorded_forward(pl_module) for callback in active]
    with _not_compiled() if active else nullcontext():
        with ExitStack() as watching:
            for each in recorded:
                watching.enter_context(each.first_run())
            prediction = forward()
        calls = {
            callback: [RecordedCall(each, forward, prediction, pl_module, weight)]
            for callback, each in zip(active, recorded, strict=True)
        }
        targets = {} if target is None else dict.fromkeys(active, target)
        penalty = _total_penalty(pl_module, callbacks, calls, targets)
    supervised = loss(prediction)
    return RegularizedLoss(supervised if penalty is None else supervised + penalty, supervised, prediction)


def attached_regularizers(pl_module: LightningModule) -> list[RegularizerCallback]:
    """The regularizer callbacks of the trainer that a module is attached to.

    Args:
        pl_module: a module; without a trainer there are none.
    """
    from lightning_advdrop.callbacks.base import RegularizerCallback

    trainer = pl_module._trainer
    callbacks: Sequence[Any] = [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, RegularizerCallback)]


def wrap_training_step(pl_module: LightningModule, callback: RegularizerCallback) -> None:
    """Makes ``training_step`` add a callback's penalty to its loss, until `unwrap_training_step`.

    Args:
        pl_module: the module; several callbacks share one wrapper.
        callback: whose penalty is added.
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


def unwrap_training_step(pl_module: LightningModule, callback: RegularizerCallback) -> None:
    """Takes back what `wrap_training_step` did for this callback, if it did."""
    step = vars(pl_module).get("training_step")
    served = getattr(step, _SERVED, [])
    if callback in served:
        served.remove(callback)
        if not served:
            getattr(step, _WRAPPED).close()


def _regularized_step(
    pl_module: LightningModule,
    callbacks: Sequence[RegularizerCallback],
    step: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    recorders = {
        c: ForwardRecorder(pl_module, c.sites, record=c.recorded_forward, module=c.module, call=c.call)
        for c in callbacks
        if c.current_weight(pl_module.trainer) > 0
    }
    with _not_compiled() if recorders else nullcontext():
        with ExitStack() as watching:
            for recorder in recorders.values():
                watching.enter_context(recorder.recording())
            result = step(*args, **kwargs)
        if result is None:  # Lightning skips the step
            return None
        batch = kwargs["batch"] if "batch" in kwargs else args[0]
        calls = {c: [_weighted(call, batch, c) for call in recorder.calls] for c, recorder in recorders.items()}
        targets = {c: select_target(batch, c.target) for c in calls if c.regularizer.needs_target}
        penalty = _total_penalty(pl_module, callbacks, calls, targets)
    return result if penalty is None else add_to_loss(result, penalty)


def _not_compiled() -> AbstractContextManager[Any]:
    """Makes what `torch.compile` returned run uncompiled: compiled code does not show its calls to a function mode."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def _weighted(call: RecordedCall, batch: Any, callback: RegularizerCallback) -> RecordedCall:
    """The call with the weights that the callback finds in the batch."""
    if callback.mask is None:
        return call
    prediction = select_prediction(call.output, callback.output)
    return replace(call, weight=select_weight(batch, callback.mask, prediction))


def _total_penalty(
    pl_module: LightningModule,
    callbacks: Sequence[RegularizerCallback],
    calls: dict[RegularizerCallback, list[RecordedCall]],
    targets: dict[RegularizerCallback, Tensor],
) -> Tensor | None:
    """The weighted sum of the penalties, logged; None if there is none."""
    total: Tensor | None = None
    batch_size = 1
    for callback in callbacks:
        factor = callback.current_weight(pl_module.trainer)
        if callback not in calls:
            callback.log_penalty(pl_module, factor, None, 1)
            continue
        found = callback.penalty(calls[callback], targets.get(callback))
        batch_size = len(select_prediction(calls[callback][0].output, callback.output))
        callback.log_penalty(pl_module, factor, found, batch_size)
        added = factor * found.value if found.supervised is None else factor * found.value + found.supervised
        total = added if total is None else total + added
    if total is not None:
        pl_module.log("train/penalty", total.detach(), on_step=False, on_epoch=True, batch_size=batch_size)
    return total

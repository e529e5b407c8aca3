"""Run a training step while callbacks record its forward passes, and add up their terms."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_advdrop._lightning import attached_trainer
from lightning_advdrop.callbacks.adds_to_loss import AddsToLoss
from lightning_advdrop.callbacks.batches import SteppedBatch
from lightning_advdrop.callbacks.early_backward import EarlyBackward, early_backward
from lightning_advdrop.callbacks.own_metrics import log_own
from lightning_advdrop.callbacks.stale_gradients import free_stale_gradients
from lightning_advdrop.callbacks.step_again import StepAgain
from lightning_advdrop.regularizers import LossWatch, Passes
from lightning_advdrop.regularizers.passes import uncompiled

# Makes the context in which a callback records; it gives the function that returns the passes, from a step's result.
Recording = Callable[[AddsToLoss, StepAgain | None], AbstractContextManager[Callable[[Any], list[Passes]]]]


class Stepped(NamedTuple):
    """A step with the terms of callbacks.

    Attributes:
        result: what it returned.
        supervised: its own loss; where the gradients were computed early, with a backward pass that hands them out.
        total: that with the terms; the same object where there are none.
    """

    result: Any
    supervised: Any
    total: Any


def take_step(
    pl_module: LightningModule,
    callbacks: Sequence[AddsToLoss],
    recording: Recording,
    again: Callable[[], StepAgain],
    run: Callable[[], Any],
    loss: Callable[[Any], Any],
    batch: SteppedBatch | None = None,
    *,
    complete: bool,
) -> Stepped:
    """Run a step while callbacks record its forward passes, and compute and log the sum of their terms.

    Args:
        pl_module: the module that is trained.
        callbacks: the callbacks.
        recording: how each one records.
        again: makes what computes the step's loss for other passes.
        run: the step.
        loss: finds or computes the loss in what it returned.
        batch: the batch, in which labels and padding are found; None where the passes have them.
        complete: whether nothing but the terms may need the graph of the loss, which is freed then where they don't.
    """
    active = active_ones(pl_module, callbacks)
    _check_halves([callback for callback in active if callback.halves_loss])
    losses = LossWatch()
    with uncompiled() if active else nullcontext():
        once_more = again() if any(callback.both_losses for callback in active) else None
        with losses if any(callback.watches_losses for callback in active) else nullcontext():
            with ExitStack() as watching:
                recorded = {callback: watching.enter_context(recording(callback, once_more)) for callback in active}
                result = run()
            own = loss(result)
        if once_more is not None:
            once_more.check()
        if result is None and batch is not None:  # of a training step, which Lightning skips then
            return Stepped(None, None, None)
        if active:
            free_stale_gradients(pl_module)
        calls, wanted = {}, []
        for callback, passes_of in recorded.items():
            found = [replace(passes, losses=losses.seen, loss=own) for passes in passes_of(result)]
            calls[callback], more = callback.prepare(pl_module, found, batch)
            wanted += more
        early = None
        if complete:
            held = [] if once_more is None else once_more.tensors
            early, calls = _without_graph(pl_module, own, calls, wanted, held)
            own = own if early is None else early.loss
        penalty = _penalty(pl_module, callbacks if _is_training(pl_module) else [], calls)
    return _stepped(result, own, penalty, early)


def _penalty(
    pl_module: LightningModule, callbacks: Sequence[AddsToLoss], calls: Mapping[AddsToLoss, list[Passes]]
) -> Tensor | None:
    """Compute and log the sum of the callbacks' terms; None where there are none."""
    terms = [term for callback in callbacks if (term := callback.term(pl_module, calls.get(callback, []))) is not None]
    if not terms:
        return None
    penalty: Tensor = functools.reduce(operator.add, terms)
    how = {"on_step": False, "on_epoch": True, "sync_dist": True}
    log_own(pl_module, {"train/penalty": penalty.detach()}, batch_size=len([*calls.values()][-1][0].base), **how)
    return penalty


def _stepped(result: Any, loss: Any, penalty: Tensor | None, early: EarlyBackward | None) -> Stepped:
    """Add the terms to the loss; where its gradients are known, let the backward pass of each sum hand them out."""
    if early is None:
        return Stepped(result, loss, loss if penalty is None else loss + penalty)
    supervised = early.completed(early.loss)
    return Stepped(result, supervised, supervised if penalty is None else early.completed(early.loss + penalty))


def _check_halves(halving: Sequence[AddsToLoss]) -> None:
    """Refuse a second callback that makes the supervised loss a mean: none would be left of the base pass's.

    Raises:
        ValueError: if there are two.
    """
    if len(halving) > 1:
        names = " and ".join(type(each).__name__ for each in halving)
        raise ValueError(
            "both_losses must be True for at most one callback of a step that takes the mean of the losses, got "
            f"{names}; set both_losses=False for the others."
        )


def _without_graph(
    pl_module: LightningModule,
    loss: Any,
    calls: dict[AddsToLoss, list[Passes]],
    wanted: Sequence[Tensor],
    held: Sequence[Tensor],
) -> tuple[EarlyBackward | None, dict[AddsToLoss, list[Passes]]]:
    """Free the graph of a loss, and return what it has left, and the passes without it, unless a callback needs it."""
    trainable = isinstance(loss, Tensor) and loss.grad_fn is not None and loss.numel() == 1
    if not calls or not trainable or any(callback.keeps_base_graph for callback in calls):
        return None, calls
    early = early_backward(pl_module, loss, [passes for each in calls.values() for passes in each], wanted, held)
    if isinstance(early, EarlyBackward):
        kept = early.loss, early.of_masks
        return early, {each: [passes.with_loss(*kept) for passes in found] for each, found in calls.items()}
    for callback in calls:
        if early not in callback.told_graph:
            callback.told_graph |= {early}
            name = type(callback).__name__
            rank_zero_info(f"{name} keeps the graph of the base pass in memory during the other passes: {early}.")
    return None, calls


def _is_training(pl_module: LightningModule) -> bool:
    """Tell whether a training step is one of the fit, and not called by ``validation_step``."""
    trainer = attached_trainer(pl_module)
    return trainer is not None and bool(trainer.training)


def active_ones(pl_module: LightningModule, callbacks: Sequence[AddsToLoss]) -> list[AddsToLoss]:
    """Return the callbacks that have a term in this step.

    Args:
        pl_module: the module that is trained.
        callbacks: the callbacks.
    """
    return [each for each in callbacks if _is_training(pl_module) and each.current_weight(pl_module.trainer) > 0]

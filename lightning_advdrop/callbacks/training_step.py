"""Add the terms of callbacks to the loss of a training step, which asks for them or is wrapped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_advdrop._deprecation import renamed_argument
from lightning_advdrop._lightning import attached_trainer, trainer_callbacks
from lightning_advdrop.callbacks.adds_to_loss import AddsToLoss
from lightning_advdrop.callbacks.batches import SteppedBatch
from lightning_advdrop.callbacks.counted_calls import loss_in
from lightning_advdrop.callbacks.own_metrics import unwatch_log
from lightning_advdrop.callbacks.recording import quietly
from lightning_advdrop.callbacks.replacing import replaced
from lightning_advdrop.callbacks.step_again import Runs, StepAgain
from lightning_advdrop.callbacks.stepping import active_ones, take_step
from lightning_advdrop.regularizers import Passes
from lightning_advdrop.regularizers.predictions import parts_of, type_of

# Attributes of a wrapped training step: the callbacks it serves, and the context in which the module has it.
_SERVED = "_regularizer_callbacks"
_WRAPPED = "_wrapped"


class RegularizedLoss(NamedTuple):
    """The result of `regularized_loss`.

    Attributes:
        total: the supervised loss plus the weighted penalties, a scalar to be minimised.
        supervised: the supervised loss alone.
        prediction: the result of the base pass.
    """

    total: Tensor
    supervised: Tensor
    prediction: Any


class WrapsTrainingStep(AddsToLoss):
    """A callback that adds its term to the loss of a training step by wrapping that, unless the module delegates."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap ``training_step``, unless the module delegates."""
        if not getattr(pl_module, "delegates_regularization", False):
            _wrap_training_step(pl_module, self)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the module as it was."""
        _unwrap_training_step(pl_module, self)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was, also where Lightning stopped the fit in a way of its own."""
        _unwrap_training_step(pl_module, self)
        unwatch_log(pl_module, self)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        _unwrap_training_step(pl_module, self)
        unwatch_log(pl_module, self)


@torch.compiler.disable  # type: ignore[untyped-decorator]
@renamed_argument("weight", "sample_weight")
def regularized_loss(
    pl_module: LightningModule,
    forward: Callable[[], Any],
    loss: Callable[[Any], Tensor],
    *,
    target: Tensor | None = None,
    sample_weight: Tensor | None = None,
    real_steps: Tensor | None = None,
    complete: bool = False,
) -> RegularizedLoss:
    """Compute a training step's loss with the penalties of all regularizers that the trainer has as callbacks.

    For modules with ``delegates_regularization = True``, to be called once in ``training_step``. Without such a
    callback it is ``loss(forward())``.

    Args:
        pl_module: the module, attached to a trainer.
        forward: computes the prediction ``(B, ..., classes)``, or returns something of which each callback's ``output``
            tells the prediction. It runs again under masks, so it should do nothing else.
        loss: computes the supervised loss, a scalar, from what the base pass returned.
        target: the labels, for regularizers that need them.
        sample_weight: weights of the examples and time steps, broadcastable to ``(B, ...)``; 0 for padding.
        real_steps: which time steps of the input are real, ``(B, T)``, where the prediction has no time steps, for
            regularizers that perturb the input; None for all.
        complete: whether ``loss`` is all that the step is trained on, so that nothing else needs the graph of the
            prediction. Regularizers that don't need it either then free it before they make other passes.

    Returns:
        The total and the supervised loss, and what the base pass returned.

    Example:
        >>> class Task(LightningModule):
        ...     delegates_regularization = True
        ...
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         mse = torch.nn.functional.mse_loss
        ...         return regularized_loss(self, lambda: self(x), lambda p: mse(p, y), target=y).total
    """
    step = _DelegatedStep(forward, loss)

    @contextmanager
    def recording(callback: AddsToLoss, again: StepAgain | None) -> Iterator[Callable[[Any], list[Passes]]]:
        callback.compared_class = type(pl_module).__name__
        recorded = callback.recorded_forward(pl_module)
        quiet = quietly(pl_module, forward)

        def passes_of(result: Any) -> list[Passes]:
            given = recorded, quiet, result, target, sample_weight
            own = Passes(*given, output=callback.output, real_steps=real_steps)
            watching = functools.partial(step.watching, own)
            under = None if again is None else functools.partial(again.under, own, watching)
            return [replace(own, step_under=under)]

        with recorded.first_run(forward):
            yield passes_of

    def again() -> StepAgain:
        return StepAgain(pl_module, step.loss_again, lambda found: found)

    callbacks = attached_regularizers(pl_module)
    stepped = take_step(pl_module, callbacks, recording, again, forward, loss, complete=complete)
    return RegularizedLoss(stepped.total, stepped.supervised, stepped.result)


class _DelegatedStep:
    """The two parts of a step that asks for penalties itself, to compute its loss for other passes.

    Args:
        forward: computes the prediction.
        loss: computes the loss from it.
    """

    def __init__(self, forward: Callable[[], Any], loss: Callable[[Any], Tensor]) -> None:
        self._forward, self._loss = forward, loss
        self._instead: list[Callable[[], Any]] = []

    @contextmanager
    def watching(self, passes: Passes, runs: Runs) -> Iterator[None]:
        """A context in which other passes run in the place of the forward."""
        self._instead.append(lambda: runs(passes, self._forward))
        yield
        self._instead.pop()

    def loss_again(self) -> Tensor:
        """Compute the loss, in such a context."""
        return self._loss(self._instead[-1]())


def attached_regularizers(pl_module: LightningModule) -> list[AddsToLoss]:
    """Return the regularizer callbacks of the trainer that a module is attached to.

    Args:
        pl_module: a module; without a trainer, and under Lightning Fabric, there are none.
    """
    return [each for each in trainer_callbacks(attached_trainer(pl_module)) if isinstance(each, AddsToLoss)]


def _wrap_training_step(pl_module: LightningModule, callback: AddsToLoss) -> None:
    """Make ``training_step`` add a callback's term to its loss; several callbacks share one wrapper."""
    served = getattr(pl_module.training_step, _SERVED, None)
    if served is not None:
        served.append(callback)
        return
    step, callbacks = pl_module.training_step, [callback]
    recording = functools.partial(_recording_calls, pl_module)

    @functools.wraps(step)
    def regularized_step(*args: Any, **kwargs: Any) -> Any:
        given = kwargs["batch"] if "batch" in kwargs else args[0]
        batch = SteppedBatch(given, kept=bool(active_ones(pl_module, callbacks)))
        run = functools.partial(step, *args, **kwargs)

        def again() -> StepAgain:
            return StepAgain(pl_module, run, loss_in)

        stepped = take_step(pl_module, callbacks, recording, again, run, _loss_of_step, batch, complete=True)
        if stepped.total is loss_in(stepped.result):
            return stepped.result
        return with_loss(stepped.result, stepped.total)

    setattr(regularized_step, _SERVED, callbacks)
    wrapped = ExitStack()
    wrapped.enter_context(replaced([(pl_module, "training_step", regularized_step)]))
    setattr(regularized_step, _WRAPPED, wrapped)


@contextmanager
def _recording_calls(
    pl_module: LightningModule, callback: AddsToLoss, again: StepAgain | None
) -> Iterator[Callable[[Any], list[Passes]]]:
    """A context in which a step's calls of the module are recorded; what it gives finds those that count."""
    recorder = callback.recorder(pl_module)

    def passes_of(result: Any) -> list[Passes]:
        first = callback.counted is None
        passes = recorder.take(loss_in(result))
        callback.counted = recorder.counted
        callback.compared_class = type(pl_module.get_submodule(recorder.counted or "")).__name__
        callback.input = recorder.input if first else None
        if again is None:
            return passes
        return list(again.of_calls(recorder, dict(zip(recorder.numbers, passes, strict=True))).values())

    with recorder.watching():
        yield passes_of


def _unwrap_training_step(pl_module: LightningModule, callback: AddsToLoss) -> None:
    """Undo the wrapping for this callback, if it was done."""
    step = vars(pl_module).get("training_step")
    served = getattr(step, _SERVED, [])
    if callback in served:
        served.remove(callback)
        if not served:
            getattr(step, _WRAPPED).close()


def with_loss(result: Any, loss: Tensor) -> Any:
    """Replace the loss in what a training step returned.

    Args:
        result: a scalar tensor, or a mapping with one under ``loss``; not changed.
        loss: a scalar tensor.

    Example:
        >>> with_loss({"loss": torch.tensor(1.0)}, torch.tensor(1.5))
        {'loss': tensor(1.5000)}
    """
    return {**result, "loss": loss} if isinstance(result, Mapping) else loss


def _loss_of_step(result: Any) -> Tensor | None:
    """Return the loss in what a training step returned; None where that is None, by which it skips a batch.

    Raises:
        ValueError: if there is no loss.
    """
    loss = loss_in(result)
    if loss is None and result is not None:
        raise ValueError(
            f"training_step must return a loss tensor, a mapping with the key 'loss', or None, got {type_of(result)}"
            f"{parts_of(result)}."
        )
    return loss

"""Add the terms of callbacks to the loss of a training step, which asks for them or is wrapped."""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_advdrop._deprecation import renamed_argument
from lightning_advdrop._lightning import attached_trainer, trainer_callbacks
from lightning_advdrop.callbacks.batches import SteppedBatch
from lightning_advdrop.callbacks.counted_calls import loss_in
from lightning_advdrop.callbacks.own_metrics import log_own, unwatch_log
from lightning_advdrop.callbacks.recording import ForwardRecorder, quietly
from lightning_advdrop.callbacks.replacing import replaced
from lightning_advdrop.masking import RecordedForward
from lightning_advdrop.regularizers import LossWatch, Passes
from lightning_advdrop.regularizers.passes import uncompiled
from lightning_advdrop.regularizers.predictions import Output, parts_of, type_of

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


class AddsToLoss(Callback, ABC):
    """A callback that adds a term to the loss of each training step."""

    output: Output
    #: The path of the module whose forward passes count, once a step has told.
    counted: str | None = None
    #: Its class.
    compared_class: str = ""
    #: What it got in that step, until the term is computed.
    input: Tensor | None = None

    @property
    def undecided(self) -> bool:
        """Whether it needs to see which loss the module calls."""
        return False

    @abstractmethod
    def current_weight(self, trainer: Trainer) -> float:
        """Return the weight in the trainer's current epoch."""

    @abstractmethod
    def recorded_forward(self, module: nn.Module) -> RecordedForward:
        """Make the recorder of a forward of a module, to be run once in this step and then again under masks."""

    @abstractmethod
    def recorder(self, pl_module: LightningModule) -> ForwardRecorder:
        """Make what records the forward passes of a training step that knows nothing of callbacks."""

    @abstractmethod
    def term(
        self, pl_module: LightningModule, calls: Sequence[Passes], batch: SteppedBatch | None = None
    ) -> Tensor | None:
        """Compute the term from the forward passes of a step; None where there are none."""

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


# Makes the context in which a callback records; it gives the function that returns the passes, from a step's result.
_Recording = Callable[[AddsToLoss], AbstractContextManager[Callable[[Any], list[Passes]]]]


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

    @contextmanager
    def recording(callback: AddsToLoss) -> Iterator[Callable[[Any], list[Passes]]]:
        callback.compared_class = type(pl_module).__name__
        recorded, again = callback.recorded_forward(pl_module), quietly(pl_module, forward)
        with recorded.first_run(forward):
            yield lambda result: [
                Passes(recorded, again, result, target, sample_weight, output=callback.output, real_steps=real_steps)
            ]

    result, supervised, penalty = _step(pl_module, attached_regularizers(pl_module), recording, forward, loss)
    return RegularizedLoss(supervised if penalty is None else supervised + penalty, supervised, result)


def attached_regularizers(pl_module: LightningModule) -> list[AddsToLoss]:
    """Return the regularizer callbacks of the trainer that a module is attached to.

    Args:
        pl_module: a module; without a trainer, and under Lightning Fabric, there are none.
    """
    return [each for each in trainer_callbacks(attached_trainer(pl_module)) if isinstance(each, AddsToLoss)]


def _step(
    pl_module: LightningModule,
    callbacks: Sequence[AddsToLoss],
    recording: _Recording,
    run: Callable[[], Any],
    loss: Callable[[Any], Any],
    batch: SteppedBatch | None = None,
) -> tuple[Any, Any, Tensor | None]:
    """Run a step while callbacks record its forward passes, and compute and log the sum of their terms.

    Returns the result, the loss of the result, and the sum. The batch, in which labels and padding are found, is None
    where the passes have them.
    """
    active = _active(pl_module, callbacks)
    losses = LossWatch()
    with uncompiled() if active else nullcontext():
        with losses if any(callback.undecided for callback in active) else nullcontext():
            with ExitStack() as watching:
                recorded = {callback: watching.enter_context(recording(callback)) for callback in active}
                result = run()
            supervised = loss(result)
        if result is None and batch is not None:  # of a training step, which Lightning skips then
            return None, None, None
        own = supervised if batch is None else loss_in(result)
        calls = {
            callback: [replace(passes, losses=losses.seen, loss=own) for passes in passes_of(result)]
            for callback, passes_of in recorded.items()
        }
        asked = callbacks if _is_training(pl_module) else []
        terms = [callback.term(pl_module, calls.get(callback, []), batch) for callback in asked]
        found = [term for term in terms if term is not None]
        if not found:
            return result, supervised, None
        total = functools.reduce(operator.add, found)
        how = {"on_step": False, "on_epoch": True, "sync_dist": True}
        log_own(pl_module, {"train/penalty": total.detach()}, batch_size=len([*calls.values()][-1][0].base), **how)
    return result, supervised, total


def _is_training(pl_module: LightningModule) -> bool:
    """Tell whether a training step is one of the fit, and not called by ``validation_step``."""
    return bool(pl_module.trainer.training)


def _active(pl_module: LightningModule, callbacks: Sequence[AddsToLoss]) -> list[AddsToLoss]:
    return [each for each in callbacks if _is_training(pl_module) and each.current_weight(pl_module.trainer) > 0]


def _wrap_training_step(pl_module: LightningModule, callback: AddsToLoss) -> None:
    """Make ``training_step`` add a callback's term to its loss; several callbacks share one wrapper."""
    served = getattr(pl_module.training_step, _SERVED, None)
    if served is not None:
        served.append(callback)
        return
    step = pl_module.training_step
    callbacks = [callback]

    @contextmanager
    def recording(callback: AddsToLoss) -> Iterator[Callable[[Any], list[Passes]]]:
        recorder = callback.recorder(pl_module)

        def passes_of(result: Any) -> list[Passes]:
            first = callback.counted is None
            passes = recorder.take(loss_in(result))
            callback.counted = recorder.counted
            callback.compared_class = type(pl_module.get_submodule(recorder.counted or "")).__name__
            callback.input = recorder.input if first else None
            return passes

        with recorder.watching():
            yield passes_of

    @functools.wraps(step)
    def regularized_step(*args: Any, **kwargs: Any) -> Any:
        given = kwargs["batch"] if "batch" in kwargs else args[0]
        batch = SteppedBatch(given, kept=bool(_active(pl_module, callbacks)))
        run = functools.partial(step, *args, **kwargs)
        result, _, penalty = _step(pl_module, callbacks, recording, run, lambda _: None, batch)
        return result if penalty is None else add_to_loss(result, penalty)

    setattr(regularized_step, _SERVED, callbacks)
    wrapped = ExitStack()
    wrapped.enter_context(replaced([(pl_module, "training_step", regularized_step)]))
    setattr(regularized_step, _WRAPPED, wrapped)


def _unwrap_training_step(pl_module: LightningModule, callback: AddsToLoss) -> None:
    """Undo the wrapping for this callback, if it was done."""
    step = vars(pl_module).get("training_step")
    served = getattr(step, _SERVED, [])
    if callback in served:
        served.remove(callback)
        if not served:
            getattr(step, _WRAPPED).close()


def add_to_loss(result: Any, penalty: Tensor) -> Any:
    """Add a penalty to the loss in what a training step returned.

    Args:
        result: a scalar tensor, or a mapping with one under ``loss``; not changed.
        penalty: a scalar tensor.

    Raises:
        ValueError: if there is no loss.

    Example:
        >>> add_to_loss({"loss": torch.tensor(1.0)}, torch.tensor(0.5))
        {'loss': tensor(1.5000)}
    """
    loss = loss_in(result)
    if loss is None:
        raise ValueError(
            f"training_step must return a loss tensor, a mapping with the key 'loss', or None, got {type_of(result)}"
            f"{parts_of(result)}."
        )
    return {**result, "loss": loss + penalty} if isinstance(result, Mapping) else loss + penalty

"""The loss of a training step that asks for the penalties of the trainer's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_advdrop._deprecation import renamed_argument
from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.callbacks.recording import quietly
from lightning_advdrop.callbacks.wrapping import total_penalty
from lightning_advdrop.regularizers import Passes
from lightning_advdrop.regularizers.passes import uncompiled


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


@torch.compiler.disable  # type: ignore[untyped-decorator]
@renamed_argument("weight", "sample_weight")
def regularized_loss(
    pl_module: LightningModule,
    forward: Callable[[], Any],
    loss: Callable[[Any], Tensor],
    *,
    target: Tensor | None = None,
    sample_weight: Tensor | None = None,
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
    with uncompiled() if active else nullcontext():
        with ExitStack() as watching:
            for each in recorded:
                watching.enter_context(each.first_run())
            result = forward()
        again = quietly(pl_module, forward)
        calls = {
            callback: [Passes(each, again, result, target, sample_weight, output=callback.output)]
            for callback, each in zip(active, recorded, strict=True)
        }
        penalty = total_penalty(pl_module, callbacks, calls)
    supervised = loss(result)
    return RegularizedLoss(supervised if penalty is None else supervised + penalty, supervised, result)


def attached_regularizers(pl_module: LightningModule) -> list[RegularizerCallback]:
    """Return the regularizer callbacks of the trainer that a module is attached to.

    Args:
        pl_module: a module; without a trainer there are none.
    """
    try:
        trainer = pl_module.trainer
    except RuntimeError:
        return []
    # Lightning Fabric gives a module something in place of a trainer that has no callbacks.
    return [each for each in getattr(trainer, "callbacks", []) if isinstance(each, RegularizerCallback)]

"""The callbacks that a model is trained with, and what masks that do nothing change."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from torch import Tensor

from lightning_advdrop import InferenceGapMonitor, RegularizerCallback
from lightning_advdrop.masking import Masks
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    Passes,
    Penalty,
    PerturbationRegularizer,
    Regularizer,
)
from lightning_advdrop.regularizers.inference_gap import inference_gap
from tests.helpers.family import CALLBACKS
from tests.masking.zoo.registry import BATCHES, Entry

MONITOR = "InferenceGapMonitor"
#: All that compare predictions: every method as a callback, one by composition, and the monitor.
NAMES = [*(found.__name__ for found in CALLBACKS.values()), "RegularizerCallback", MONITOR]
METHODS: dict[str, type[Regularizer]] = {found.__name__: method for method, found in CALLBACKS.items()}

_WEIGHT = 1e-30
#: Logging takes much of the time of such small models.
_QUICK = {"log_every_n_steps": 100}


class _Change(L.Callback):
    """Gives a callback another method after the first epoch."""

    def __init__(self, callback: RegularizerCallback, methods: list[Regularizer]) -> None:
        self._callback, self._methods = callback, methods

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._callback.regularizer = self._methods[min(trainer.current_epoch, 1)]


def callbacks_of(entry: Entry, name: str, changes: list[float]) -> list[L.Callback]:
    if name == MONITOR:
        chosen = {k: v for k, v in entry.method.items() if k == "divergence"}
        given = {"sites": entry.sites, **_common(entry), **chosen, **entry.monitor}
        return [InferenceGapMonitor(rate=0.3, samples=2, limit_batches=BATCHES, **given)]
    method = _method(entry, name)
    callback = _callback(entry, name, method)
    return [_Change(callback, [_measured(_idle(method), entry, changes), _unsupervised(method)]), callback]


def _common(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.arguments.items() if name != "target"}


def _method(entry: Entry, name: str) -> Regularizer:
    """Make the method with a strong setting; the base pass is the plain one, also where methods mask it."""
    kind = METHODS.get(name, AdversarialDropout)
    arguments = inspect.signature(kind).parameters
    own = {field: value for field, value in entry.method.items() if field in arguments}
    strength: dict[str, Any] = {"epsilon": 1.0} if issubclass(kind, PerturbationRegularizer) else {"rate": 0.3}
    if kind is AdversarialDropout:  # its other searches mask the base pass
        strength |= {"search": "gradient", "share_masks": False}
    if name == "RegularizerCallback":
        strength |= {"share_masks": True, "steps": 2}
    method = kind(**{**strength, **own})
    vars(method)["masks_base"] = False
    return method


def _callback(entry: Entry, name: str, method: Regularizer) -> RegularizerCallback:
    shifts = isinstance(method, PerturbationRegularizer)
    given = {"sites": entry.shifts if shifts else entry.sites, "weight": _WEIGHT, **_QUICK, **entry.arguments}
    if name == "RegularizerCallback":
        return RegularizerCallback(method, **given)
    callback: Any = {found.__name__: found for found in CALLBACKS.values()}[name](**given)
    callback.regularizer = method
    return callback  # type: ignore[no-any-return]


def _unsupervised(method: Regularizer) -> Regularizer:
    """Leave out a method's further loss, which no weight multiplies."""
    changed = copy.copy(method)
    evaluate = changed.evaluate
    vars(changed)["evaluate"] = lambda passes: replace(evaluate(passes), supervised=None)
    return changed


def _idle(method: Regularizer) -> Regularizer:
    """Make a method find masks that do nothing, with all other noise shared."""
    idle = copy.copy(method)
    vars(idle)["share_masks"] = True
    if isinstance(idle, AdversarialDropout):
        search = idle.find_masks
        vars(idle)["find_masks"] = lambda passes, reference: (search(passes, reference), dict(reference))[1]
    elif isinstance(idle, PerturbationRegularizer):
        idle.epsilon = 1e-30
    else:
        vars(idle)["rate"] = 0.0
    return idle


def _measured(idle: Regularizer, entry: Entry, changes: list[float]) -> Regularizer:
    """Note by how much masks that do nothing change the prediction, and what they cost."""

    def evaluate(passes: Passes) -> Penalty:
        watched = _Watched(**{each.name: getattr(passes, each.name) for each in fields(passes) if each.init})
        watched.kept.update({(idle, name): value for (_, name), value in passes.kept.items()})
        vars(watched)["drops"] = entry.drops
        found = type(idle).evaluate(idle, watched)
        value, other = found.value.detach(), vars(watched).get("last")
        if isinstance(idle, AdversarialTraining):
            comparison = passes.compared(idle.divergence, to_labels=True)
            value = value - passes.loss_to_target(passes.base, comparison).detach()
        masks = {site: seen.site.rescale(seen.reference(passes.generator)) for site, seen in passes.observed.items()}
        changes.extend([abs(value.item()), _change(passes.base, passes.run(masks) if other is None else other)])
        return replace(found, supervised=None)

    measured = copy.copy(idle)
    vars(measured)["evaluate"] = evaluate
    return measured


class _Watched(Passes):
    """Passes that keep the prediction of the last one; a network that drops units itself goes on to do so."""

    def run(self, masks: Masks, *, dropout: bool = True) -> Tensor:
        vars(self)["last"] = super().run(masks, dropout=dropout or vars(self)["drops"])
        return vars(self)["last"]  # type: ignore[no-any-return]


def _change(base: Tensor, other: Tensor) -> float:
    if other.shape != base.shape:
        return float("inf")
    base, other = base.detach(), other.detach()
    change = torch.where(other == base, 0.0, other - base).abs()
    return change.nan_to_num(nan=float("inf")).max().item()


@contextmanager
def measured_gap(changes: list[float]) -> Iterator[None]:
    """Note the same of the monitor, where it computes the gap."""

    def measured(passes: Passes, *args: Any, **kwargs: Any) -> Any:
        found = inference_gap(passes, *args, **kwargs)
        with torch.no_grad():
            other = passes.run({site: seen.ones() for site, seen in passes.observed.items()})
        changes.append(_change(passes.base, other))
        return found

    with patch("lightning_advdrop.callbacks.inference_gap.inference_gap", measured):
        yield

"""The two checks of a model with a callback: masks that do nothing cost nothing, and training leaves no trace."""

from __future__ import annotations

import copy
import importlib.metadata
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from lightning_advdrop import InferenceGapMonitor, RegularizerCallback
from lightning_advdrop.callbacks import flush_denormals, inference_gap
from lightning_advdrop.masking import Masks
from lightning_advdrop.regularizers import (
    AdversarialDropout,
    AdversarialTraining,
    ExpectationLinearDropout,
    Passes,
    Penalty,
    PerturbationRegularizer,
    Regularizer,
)
from tests.helpers.family import CALLBACKS
from tests.masking.zoo.registry import BATCHES, Entry
from tests.masking.zoo.snapshot import differences, generators, snapshot

MONITOR = "InferenceGapMonitor"
#: All that compare predictions: every method as a callback, one by composition, and the monitor.
NAMES = [*(found.__name__ for found in CALLBACKS.values()), "RegularizerCallback", MONITOR]
_METHODS: dict[str, type[Regularizer]] = {found.__name__: method for method, found in CALLBACKS.items()}

_WEIGHT = 1e-30
#: Logging takes much of the time of such small models.
_QUICK = {"log_every_n_steps": 100}
_OWN = ("train/penalty", "advdrop/", "gap/", *(f"{method.log_prefix}/" for method in _METHODS.values()))


@dataclass
class Outcome:
    """What came of a model with a callback.

    Attributes:
        zero: the largest change that masks made which do nothing; None where it was not measured.
        trace: where training differs from plain training.
        refusal: the message of the one who refused it.
        error: what went wrong where it should not: another error, or a refusal too late.
    """

    zero: float | None = None
    trace: tuple[str, ...] = ()
    refusal: str = ""
    error: str = ""

    def faults(self, words: tuple[str, ...] | None, rounding: float) -> list[str]:
        """List what is wrong, for a model that must be refused in these words or else must work."""
        if self.error:
            return [self.error]
        if words is not None:
            missing = [word for word in words if word not in self.refusal]
            return [f"must be refused by {missing}: {self.refusal or 'it is not'}"] if missing else []
        if self.refusal:
            return [f"refused: {self.refusal}"]
        found = [f"masks that do nothing change {self.zero}"] if self.zero is None or self.zero > rounding else []
        if self.trace:
            first = sorted(self.trace, key=lambda where: "_parameters" in where or "optimizer" in where)
            found.append(f"training differs in {len(self.trace)} places: {'; '.join(first[:4])}")
        return found


def check(entry: Entry, name: str) -> Outcome:
    """Train a model with a callback, in the first epoch under masks that do nothing, and compare it with itself."""
    plain = _plain(entry)
    changes: list[float] = []
    try:
        with _measured_gap(changes):
            callbacks = _callbacks(entry, name, changes)
            found = fit(entry, *callbacks)
    except Exception as error:
        return _failed(error, entry, name)
    trace = [
        f"{part} {difference}"
        for part in plain
        for difference in differences(plain[part], {n: v for n, v in found[part].items() if not _is_own(part, n)})
    ]
    return Outcome(max(changes, default=None), tuple(trace))


def words_of(entry: Entry, name: str) -> tuple[str, ...] | None:
    """Return the words by which a model is refused, if it must be."""
    method = _METHODS.get(name)
    groups = ["perturbations"] if method and issubclass(method, PerturbationRegularizer) else []
    targets = method is not None and method().needs_target
    return entry.refusal(name, *(["targets"] if targets else []), *groups)


# Training.


def fit(entry: Entry, *callbacks: L.Callback) -> dict[str, dict[str, str]]:
    """Train a model for two epochs, from the same seed, then validate it; describe what came of it, part by part."""
    L.seed_everything(11, verbose=False)
    module = entry.make()
    logger = _Logger()
    trainer = _trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 2,
            "logger": logger,
            "log_every_n_steps": 1,
            "callbacks": [*callbacks, _Filled()],
            "check_val_every_n_epoch": 2,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **entry.trainer,
        }
    )
    L.seed_everything(3, verbose=False)
    try:
        trainer.fit(module)
    except Exception as error:
        error.steps = trainer.global_step  # type: ignore[attr-defined]
        raise
    return {
        "module": snapshot(module),
        "optimizer": snapshot([optimizer.state_dict() for optimizer in trainer.optimizers]),
        "generators": generators(),
        "metrics": logger.found | {n: repr(v.item()) for n, v in trainer.callback_metrics.items()},
    }


def _trainer(**arguments: Any) -> L.Trainer:
    with patch("lightning.fabric.utilities.registry.entry_points", _entry_points):
        return L.Trainer(**arguments)


# Every trainer reads them from the folders of all packages.
_entry_points = lru_cache(importlib.metadata.entry_points)


class _Filled(L.Callback):
    """Gives parameters a gradient of zero where they have none.

    A pass with other noise may use parameters that the step itself does not use, as under stochastic depth. Momentum
    goes on for a gradient of zero, and stands still without one.
    """

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class _Logger(DummyLogger):
    """Keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.found |= {f"{name} at {step}": repr(value) for name, value in metrics.items()}

    def __getattr__(self, _: str) -> Callable[..., Any]:
        raise AttributeError(_)


def _is_own(part: str, name: str) -> bool:
    return part == "metrics" and name.startswith(_OWN)


@lru_cache
def _plain_of(name: str) -> dict[str, dict[str, str]]:
    from tests.masking.zoo.table import ZOO

    flush_denormals(torch.device("cpu"))
    return fit(ZOO[name])


def _plain(entry: Entry) -> dict[str, dict[str, str]]:
    return _plain_of(entry.name)


def _failed(error: Exception, entry: Entry, name: str) -> Outcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    message = f"{error}"
    steps = 2 * BATCHES if name == MONITOR else 0
    ours = "/lightning_advdrop/" in where.filename and (where.line or "").startswith("raise")
    if not ours or "\n" in message:
        return Outcome(error=f"{type(error).__name__} of {where.name}, line {where.lineno}: {message}")
    if getattr(error, "steps", 0) > steps:
        return Outcome(error=f"refused too late, after {getattr(error, 'steps', 0)} steps: {message}")
    return Outcome(refusal=message)


# The callbacks.


class _Change(L.Callback):
    """Gives a callback another method after the first epoch."""

    def __init__(self, callback: RegularizerCallback, methods: list[Regularizer]) -> None:
        self._callback, self._methods = callback, methods

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._callback.regularizer = self._methods[min(trainer.current_epoch, 1)]


def _callbacks(entry: Entry, name: str, changes: list[float]) -> list[L.Callback]:
    if name == MONITOR:
        method = {k: v for k, v in entry.method.items() if k == "divergence"}
        given = {"sites": entry.sites, **_common(entry), **method, **entry.monitor}
        return [InferenceGapMonitor(rate=0.3, samples=2, limit_batches=BATCHES, **given)]
    method = _method(entry, name)
    callback = _callback(entry, name, method)
    return [_Change(callback, [_measured(_idle(method), entry, changes), _unsupervised(method)]), callback]


def _common(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.arguments.items() if name != "target"}


def _method(entry: Entry, name: str) -> Regularizer:
    """Make the method with a strong setting; the base pass is the plain one, also where methods mask it."""
    kind = _METHODS.get(name, AdversarialDropout)
    arguments = inspect.signature(kind).parameters
    own = {field: value for field, value in entry.method.items() if field in arguments}
    strength: dict[str, Any] = {"epsilon": 1.0} if issubclass(kind, PerturbationRegularizer) else {"rate": 0.3}
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
        if isinstance(idle, ExpectationLinearDropout) and entry.drops:
            passes = _Dropping(**{each.name: getattr(passes, each.name) for each in fields(passes) if each.init})
        found = type(idle).evaluate(idle, passes)
        value = found.value.detach()
        if isinstance(idle, AdversarialTraining):
            comparison = passes.compared(idle.divergence, to_labels=True)
            value = value - passes.loss_to_target(passes.base, comparison).detach()
        changes.extend([abs(value.item()), _change(passes, _references(passes, idle))])
        return replace(found, supervised=None)

    measured = copy.copy(idle)
    vars(measured)["evaluate"] = evaluate
    return measured


class _Dropping(Passes):
    """Passes in which the network goes on to drop units itself."""

    def run(self, masks: Masks, *, dropout: bool = True) -> Tensor:
        return super().run(masks)


def _references(passes: Passes, idle: Regularizer) -> Masks:
    if isinstance(idle, PerturbationRegularizer):
        return {}
    return {site: seen.site.rescale(seen.reference(passes.generator)) for site, seen in passes.observed.items()}


def _change(passes: Passes, masks: Masks) -> float:
    with torch.no_grad():
        other = passes.run(masks)
    if other.shape != passes.base.shape:
        return float("inf")
    return (other - passes.base).detach().abs().nan_to_num(0.0).max().item()


@contextmanager
def _measured_gap(changes: list[float]) -> Iterator[None]:
    """Note the same of the monitor, where it computes the gap."""
    compute = inference_gap.inference_gap

    def measured(passes: Passes, *args: Any, **kwargs: Any) -> Any:
        found = compute(passes, *args, **kwargs)
        changes.append(_change(passes, {site: seen.ones() for site, seen in passes.observed.items()}))
        return found

    with patch.object(inference_gap, "inference_gap", measured):
        yield

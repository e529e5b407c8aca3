"""Training steps through a Trainer, in which methods take turns."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.benchmarks.price.meters import Meter
from tests.benchmarks.price.methods import callback
from tests.benchmarks.price.shapes import Batches, Shape, Sizes

_FEW = 4  # time steps of a short batch
#: By the meter's name and the method: a value of each round.
Measured = dict[str, dict[str, list[float]]]


class StepError(RuntimeError):
    """A step of a method failed.

    Attributes:
        method: its name.
    """

    def __init__(self, method: str, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
        self.method = method


class Turns(Callback):
    """Lets each step of a fit be one of another method, and measures it.

    What slows the machine down for a while then slows all methods down, so that ratios within a round are those of
    methods. The method's callback is the only one that the trainer has in its steps.

    Args:
        callbacks: those of each method; None for plain training.
        meters: what measures a step, by name.
        warm_up: rounds that are not measured.
    """

    def __init__(self, callbacks: Mapping[str, Callback | None], meters: Mapping[str, Meter], warm_up: int) -> None:
        self.callbacks, self.meters, self.warm_up = dict(callbacks), dict(meters), warm_up
        self.measured: Measured = {name: {method: [] for method in callbacks} for name in meters}
        self.current = next(iter(self.callbacks))

    def turn(self, step: int) -> tuple[int, str]:
        """The round of a step, and its method; each round begins with the next one."""
        names = list(self.callbacks)
        number, place = divmod(step, len(names))
        return number, names[(number + place) % len(names)]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.all = list(trainer.callbacks)  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gc.collect()
        gc.freeze()  # what is there stays there, and needs no looking through in each step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gc.unfreeze()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        _, self.current = self.turn(batch_idx)
        mine = [each for each in self.callbacks.values() if each is not None]
        active = self.callbacks[self.current]
        trainer.callbacks = [each for each in self.all if each is active or each not in mine]  # type: ignore[attr-defined]
        gc.collect()  # a pause of the collector is no part of a step, and what it frees is none of what the step finds
        for meter in self.meters.values():
            meter.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        number, method = self.turn(batch_idx)
        for name, meter in self.meters.items():
            value = meter.stop()
            if number >= self.warm_up:
                self.measured[name][method].append(value)
        trainer.callbacks = self.all  # type: ignore[attr-defined]


def measure(
    shape: Shape,
    methods: Sequence[str],
    meters: Mapping[str, Meter],
    *,
    sizes: Sizes,
    repeats: int,
    warm_up: int = 2,
    short: int = 0,
    device: str = "cpu",
    **trainer: Any,
) -> Measured:
    """Measure steps of several methods, which take turns on one model and one batch.

    Args:
        shape: the model.
        methods: the names of the methods.
        meters: what measures a step, by name.
        sizes: of the model and the batch.
        repeats: rounds that are measured, of one step of each method.
        warm_up: rounds before.
        short: how many of these have a few time steps only.
        device: ``cpu`` or ``cuda``.
        trainer: further arguments of the trainer.

    Raises:
        StepError: if a step fails.
    """
    torch.manual_seed(0)
    module, batch = shape.make(sizes)
    callbacks = {method: callback(shape, method) for method in methods}
    turns = Turns(callbacks, meters, warm_up)
    _, few = shape.make(sizes._replace(steps=min(_FEW, sizes.steps)))
    data = Batches([few] * short * len(callbacks) + [batch] * (warm_up + repeats - short) * len(callbacks), sizes.words)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Trainer(
                accelerator="cpu" if device == "cpu" else "gpu",
                callbacks=[*filter(None, callbacks.values()), turns],
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,  # each process has all steps
                **{"devices": 1, **trainer},
            ).fit(module, data)
        except Exception as error:
            raise StepError(turns.current, error) from error
    return turns.measured

"""What all tasks of the study have."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import lightning as L

from lightning_advdrop.tuning import Method
from tests.benchmarks.study.methods import MAIN


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task of the study.

    Args:
        n_train: training examples.
        steps: of a run, about.
        batch_size: of training.
        rate: the learning rate at the start.
        validations: of a run, about.
        sites: where the masks of a method are, by its name, in the place of its own sites.

    Attributes:
        metric: of the validation data, which chooses values and epochs; the smaller the better.
        tested: what is compared on the test data.
        clip: the largest norm of a gradient.
        methods: those of which the task has runs.
        folder: where these are kept, in that of all tasks; those with other methods are elsewhere.
    """

    metric: ClassVar[str] = "val/brier"
    tested: ClassVar[str] = "test/error"
    clip: ClassVar[float] = 1.0
    methods: ClassVar[tuple[str, ...]] = MAIN
    folder: ClassVar[str] = ""

    n_train: int
    steps: int = 400
    batch_size: int = 32
    rate: float = 5e-3
    validations: int = 12
    sites: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self.n_train / self.batch_size)

    @property
    def epochs(self) -> int:
        """Epochs of a run."""
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def every(self) -> int:
        """Epochs from one validation to the next."""
        return max(1, self.epochs // self.validations)

    @abstractmethod
    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module of a seed."""

    @abstractmethod
    def model(self) -> Callable[[], L.LightningModule]:
        """Return what makes the model."""

    def at_sites(self, method: Method) -> Method:
        """Return a method with its masks where they are in this task."""
        if method.regularizer is None or method.name not in self.sites:
            return method
        arguments = {**method.regularizer["init_args"], "sites": self.sites[method.name]}
        return replace(method, regularizer={**method.regularizer, "init_args": arguments})

"""The tasks of the study, and their model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_advdrop import MNISTDataModule
from lightning_advdrop.tuning import Method, Objects, Parts
from tests.benchmarks.study.series import Series

UNITS = 100
_MNIST_VALIDATION, _VALIDATIONS = 2000, 12


class Classifier(L.LightningModule):
    """A recurrent layer whose last output tells the class. It knows nothing of regularizers.

    Args:
        cell: ``lstm`` or ``gru``.
        features: of a time step.
        classes: the number of classes.
        rate: the learning rate of Adam at the start; it falls to 0 along a cosine.
    """

    def __init__(self, cell: str, features: int, classes: int, rate: float) -> None:
        super().__init__()
        self.layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](features, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, classes)
        self.rate = rate

    def forward(self, series: Tensor) -> Tensor:
        """Compute logits ``(B, classes)`` of series ``(B, T, features)``."""
        logits: Tensor = self.head(self.layer(series)[0][:, -1])
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        series, labels = batch
        return nn.functional.cross_entropy(self(series), labels)

    def _evaluate(self, part: str, batch: tuple[Tensor, Tensor]) -> None:
        series, labels = batch
        logits = self(series)
        # The Brier score is finer than the error of few examples; a few sure mistakes don't outweigh all else, as in
        # the cross-entropy.
        score = (logits.softmax(-1) - nn.functional.one_hot(labels, logits.shape[-1])).square().sum(-1).mean()
        self.log(f"{part}/brier", score, batch_size=len(labels))
        wrong = (logits.argmax(-1) != labels).float().mean()
        self.log(f"{part}/error", wrong, batch_size=len(labels))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
        # To 0: a run ends where training has settled, however strong the noise of its masks is.
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class FewImages(MNISTDataModule):
    """MNIST by rows with few images for training, others by each seed, and few for validation."""

    def __init__(self, n_train: int, batch_size: int, seed: int) -> None:
        super().__init__(by="row", batch_size=batch_size, seed=seed)
        self.n_few = n_train

    def load_training(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Load images and labels for training, which the seed chooses, then those for validation."""
        images, labels, others, their_labels = super().load_training()
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))[: self.n_few]
        return images[chosen], labels[chosen], others[:_MNIST_VALIDATION], their_labels[:_MNIST_VALIDATION]


@dataclass(frozen=True)
class Task:
    """A task of the study.

    Args:
        title: how tables call it.
        features: of a time step.
        classes: the number of classes.
        n_train: training examples.
        steps: of a run, about.
        series: the data set's name; empty for MNIST.
        patch: values of a series that make up one time step.
        batch_size: of training.
        cell: of the recurrent layer.
        rate: the learning rate.
    """

    title: str
    features: int
    classes: int
    n_train: int
    steps: int = 400
    series: str = ""
    patch: int = 1
    batch_size: int = 32
    cell: str = "lstm"
    rate: float = 5e-3

    @property
    def epochs(self) -> int:
        """Epochs of a run."""
        return math.ceil(self.steps / math.ceil(self.n_train / self.batch_size))

    @property
    def every(self) -> int:
        """Epochs from one validation to the next."""
        return max(1, self.epochs // _VALIDATIONS)

    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module of a seed."""
        if not self.series:
            return FewImages(self.n_train, self.batch_size, seed)
        return Series(self.series, self.n_train, self.patch, self.batch_size, seed)


_SERIES = {
    "gunpoint": Task("GunPoint", 10, 2, 50, series="GunPoint", patch=10),
    "italy_power": Task("ItalyPowerDemand", 2, 2, 67, series="ItalyPowerDemand", patch=2),
    "arrow_head": Task("ArrowHead", 16, 3, 54, series="ArrowHead", patch=16),
    "osu_leaf": Task("OSULeaf", 28, 6, 120, series="OSULeaf", patch=28),
    "basic_motions": Task("BasicMotions", 30, 4, 20, series="BasicMotions", patch=5),
    "japanese_vowels": Task("JapaneseVowels", 12, 9, 160, series="JapaneseVowels"),
    "digits": Task("digits, 100 images", 8, 10, 100, series="digits"),
}
_MNIST = {
    "mnist_300": Task("MNIST, 300 images", 28, 10, 300, 600, batch_size=50),
    "mnist_1000": Task("MNIST, 1,000 images", 28, 10, 1000, 1200, batch_size=50),
    "mnist_10000": Task("MNIST, 10,000 images", 28, 10, 10_000, 2400, batch_size=50),
}
_BOTH = {**_SERIES, **_MNIST}
TASKS: dict[str, Task] = {
    **{f"{name}_lstm": task for name, task in _BOTH.items()},
    **{f"{name}_gru": replace(task, cell="gru") for name, task in _BOTH.items()},
}


@dataclass(frozen=True)
class TaskExperiment:
    """Makes the objects of each run of a task, for the search.

    Args:
        name: one of `TASKS`.
        small: whether to train for two epochs only, to try the program.
    """

    name: str
    small: bool = False

    @property
    def description(self) -> str:
        """The task's settings."""
        return f"{self.name} {TASKS[self.name]} {'small' if self.small else ''}"

    def build(self, method: Method, values: dict[str, Any], seed: int, folder: Path) -> Parts:
        """Make new objects, from a seed."""
        task = TASKS[self.name]
        trainer = {
            "accelerator": "cpu",
            "max_epochs": 2 if self.small else task.epochs,
            "check_val_every_n_epoch": 1 if self.small else task.every,
            "num_sanity_val_steps": 0,
            "gradient_clip_val": 1.0,
        }
        model = partial(Classifier, task.cell, task.features, task.classes, task.rate)
        return Objects(model, partial(task.data, seed), trainer).build(method, values, seed, folder)

    def config(self, method: Method, values: dict[str, Any]) -> str:
        """Return the regularizer in YAML."""
        return Objects(L.LightningModule).config(method, values)

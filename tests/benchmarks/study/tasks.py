"""The tasks of the study, and their model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_advdrop import MNISTDataModule
from lightning_advdrop.tuning import Method, Objects, Parts
from tests.benchmarks.study.series import Series

UNITS = 100
_MNIST_VALIDATION, _MNIST_BATCH = 2000, 50


class Classifier(L.LightningModule):
    """A recurrent layer whose last output tells the class. It knows nothing of regularizers.

    Args:
        cell: ``lstm`` or ``gru``.
        features: of a time step.
        classes: the number of classes.
        rate: the learning rate of Adam.
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
        self.log(f"{part}/loss", nn.functional.cross_entropy(logits, labels), batch_size=len(labels))
        wrong = (logits.argmax(-1) != labels).float().mean()
        self.log(f"{part}/error", wrong, batch_size=len(labels))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.rate)


class FewImages(MNISTDataModule):
    """MNIST by rows with few images for training, others by each seed, and few for validation."""

    def __init__(self, n_train: int, seed: int) -> None:
        super().__init__(by="row", batch_size=_MNIST_BATCH, seed=seed)
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
        epochs: of a run.
        every: epochs from one validation to the next.
        n_train: training examples.
        series: the data set's name; empty for MNIST.
        patch: values of a series that make up one time step.
        batch_size: of the series.
        cell: of the recurrent layer.
        rate: the learning rate.
    """

    title: str
    features: int
    classes: int
    epochs: int
    n_train: int
    every: int = 2
    series: str = ""
    patch: int = 1
    batch_size: int = 32
    cell: str = "lstm"
    rate: float = 3e-3

    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module of a seed."""
        if not self.series:
            return FewImages(self.n_train, seed)
        return Series(self.series, self.n_train, self.patch, self.batch_size, seed)


_OTHERS = {
    "gunpoint": Task("GunPoint", 5, 2, 100, 50, series="GunPoint", patch=5),
    "italy_power": Task("ItalyPowerDemand", 1, 2, 60, 67, series="ItalyPowerDemand"),
    "arrow_head": Task("ArrowHead", 10, 3, 100, 54, series="ArrowHead", patch=10),
    "osu_leaf": Task("OSULeaf", 14, 6, 60, 120, series="OSULeaf", patch=14),
    "basic_motions": Task("BasicMotions", 24, 4, 60, 20, series="BasicMotions", patch=4),
    "japanese_vowels": Task("JapaneseVowels", 12, 9, 40, 160, series="JapaneseVowels"),
}
TASKS: dict[str, Task] = {
    "mnist_300": Task("MNIST, 300 images", 28, 10, 60, 300, rate=1e-3),
    "mnist_1000": Task("MNIST, 1,000 images", 28, 10, 60, 1000, rate=1e-3),
    **{f"{name}_lstm": task for name, task in _OTHERS.items()},
    **{f"{name}_gru": Task(**{**vars(task), "cell": "gru"}) for name, task in _OTHERS.items()},
    "digits": Task("digits, 100 images", 8, 10, 60, 100, series="digits"),
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

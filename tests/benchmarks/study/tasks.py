"""The tasks of the study."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from lightning_advdrop import MNISTDataModule
from lightning_advdrop.tuning import Method, Objects, Parts
from tests.benchmarks.study.language import LanguageTask
from tests.benchmarks.study.methods import FEW
from tests.benchmarks.study.models import Classifying, Recurrent, sentence_encoder
from tests.benchmarks.study.reviews import Reviews
from tests.benchmarks.study.series import Series
from tests.benchmarks.study.task import Task
from tests.benchmarks.study.text import DocumentsTask

_MNIST_VALIDATION = 2000
# Of the sentence encoder, before the layer that tells the class.
_LAST_DROPOUT = "network.dropout:dropout"


class FewImages(MNISTDataModule):
    """MNIST with few images for training, others by each seed, and few for validation.

    Args:
        n_train: images to train on.
        seed: of the choice, and of the order.
        **arguments: of `MNISTDataModule`.
    """

    def __init__(self, n_train: int, seed: int, **arguments: Any) -> None:
        super().__init__(seed=seed, **arguments)
        self.n_few = n_train

    def load_training(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Load images and labels for training, which the seed chooses, then those for validation."""
        images, labels, others, their_labels = super().load_training()
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))[: self.n_few]
        return images[chosen], labels[chosen], others[:_MNIST_VALIDATION], their_labels[:_MNIST_VALIDATION]


@dataclass(frozen=True, kw_only=True)
class RecurrentTask(Task, ABC):
    """A task of the recurrent classifier.

    Args:
        features: of a time step.
        classes: the number of classes.
        cell: of the recurrent layer.
    """

    features: int
    classes: int
    cell: str = "lstm"

    def model(self) -> Callable[[], Classifying]:
        """Return what makes the model."""
        return partial(Recurrent, self.cell, self.features, self.classes, self.rate)


@dataclass(frozen=True, kw_only=True)
class SeriesTask(RecurrentTask):
    """Time series.

    Args:
        series: the data set's name.
        patch: values of a series that make up one time step.
    """

    series: str
    patch: int = 1

    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module of a seed."""
        return Series(self.series, self.n_train, self.patch, self.batch_size, seed)


@dataclass(frozen=True, kw_only=True)
class ImagesTask(RecurrentTask):
    """Images of MNIST, by rows; or the pixels of images of 14 x 14, in an order that was drawn once.

    Args:
        permuted: the latter.
    """

    features: int = 28
    classes: int = 10
    batch_size: int = 50
    permuted: bool = False

    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module of a seed."""
        how = {"by": "pixel", "permuted": True, "image_size": 14} if self.permuted else {"by": "row"}
        return FewImages(self.n_train, seed, batch_size=self.batch_size, **how)


@dataclass(frozen=True, kw_only=True)
class ReviewsTask(Task):
    """Reviews of films, with a pre-trained Transformer of which all is trained; it has dropout of its own, of 0.1.

    R-Drop's masks are at all of its dropout layers, as published. Adversarial drops are at the last one only: those at
    all layers add up, and nothing is learnt.
    """

    methods: ClassVar[tuple[str, ...]] = FEW
    folder: ClassVar[str] = "transformer"

    batch_size: int = 16
    rate: float = 1e-4
    validations: int = 3
    sites: Mapping[str, str] = field(
        default_factory=lambda: {"r_drop": "dropout", **dict.fromkeys(("label", "on_random"), _LAST_DROPOUT)}
    )

    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module of a seed."""
        return Reviews(self.n_train, self.batch_size, seed)

    def model(self) -> Callable[[], Classifying]:
        """Return what makes the model."""
        return partial(sentence_encoder, self.rate)


_SERIES = {
    "gunpoint": SeriesTask(series="GunPoint", features=10, classes=2, n_train=50, patch=10),
    "italy_power": SeriesTask(series="ItalyPowerDemand", features=2, classes=2, n_train=67, patch=2),
    "arrow_head": SeriesTask(series="ArrowHead", features=16, classes=3, n_train=54, patch=16),
    "osu_leaf": SeriesTask(series="OSULeaf", features=28, classes=6, n_train=120, patch=28),
    "basic_motions": SeriesTask(series="BasicMotions", features=30, classes=4, n_train=20, patch=5),
    "japanese_vowels": SeriesTask(series="JapaneseVowels", features=12, classes=9, n_train=160),
    "digits": SeriesTask(series="digits", features=8, classes=10, n_train=100),
}
_MNIST = {
    "mnist_300": ImagesTask(n_train=300, steps=600),
    "mnist_1000": ImagesTask(n_train=1000, steps=1200),
    "mnist_10000": ImagesTask(n_train=10_000, steps=2400),
    "permuted_mnist": ImagesTask(n_train=10_000, steps=2400, features=1, permuted=True),
}
_BOTH: dict[str, RecurrentTask] = {**_SERIES, **_MNIST}
TASKS: dict[str, Task] = {
    **{f"{name}_lstm": task for name, task in _BOTH.items()},
    **{f"{name}_gru": replace(task, cell="gru") for name, task in _BOTH.items()},
    "documents_2000": DocumentsTask(n_train=2000),
    "reviews_500": ReviewsTask(n_train=500, steps=96),
    "reviews_2000": ReviewsTask(n_train=2000, steps=250),
    "penn_treebank": LanguageTask(steps=1000),
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
            "gradient_clip_val": task.clip,
        }
        objects = Objects(task.model(), partial(task.data, seed), trainer)
        return objects.build(task.at_sites(method), values, seed, folder)

    def config(self, method: Method, values: dict[str, Any]) -> str:
        """Return the regularizer in YAML."""
        return Objects(L.LightningModule).config(TASKS[self.name].at_sites(method), values)

"""Documents, as the package's own task reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import lightning as L

from lightning_advdrop import IMDBDataModule, TextClassificationTask
from tests.benchmarks.study.methods import TEXT
from tests.benchmarks.study.task import Task

PRETRAINED = Path("runs/pretrained/imdb_small.ckpt")
# What is left of the learning rate at the end, as Adam's decay from step to step makes it.
_LEFT = 0.01


@dataclass(frozen=True, kw_only=True)
class DocumentsTask(Task):
    """Reviews of IMDB with labels, which the seed chooses, and others without, in a pre-trained LSTM of 128 units.

    The settings are those of ``configs/imdb_small.yaml``, without the average of the weights.
    ``configs/imdb_small_pretrain.yaml`` makes the language model that all seeds start from.

    Args:
        unlabelled: reviews without labels.
    """

    # The validation data are 3,750 documents, of which the error is fine enough.
    metric: ClassVar[str] = "val/error"
    methods: ClassVar[tuple[str, ...]] = TEXT
    folder: ClassVar[str] = "text"

    unlabelled: int = 20_000
    steps: int = 1000
    validations: int = 8

    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module of a seed."""
        return IMDBDataModule(
            seed=seed,
            train_size=self.n_train,
            unlabelled_size=self.unlabelled,
            max_vocabulary=20_000,
            max_tokens=100,
            batch_size=self.batch_size,
            eval_batch_size=250,
        )

    def model(self) -> Callable[[], L.LightningModule]:
        """Return what makes the model."""
        return partial(
            TextClassificationTask,
            embedding_size=64,
            hidden_size=128,
            dropout=0.3,
            learning_rate=self.rate,
            decay=_LEFT ** (1 / self.steps),
            pretrained=PRETRAINED,
        )

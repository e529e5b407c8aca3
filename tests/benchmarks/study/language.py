"""Language, as the package's own task models it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import lightning as L

from lightning_advdrop import LanguageModelingTask, PennTreebankDataModule
from tests.benchmarks.study.methods import LANGUAGE
from tests.benchmarks.study.task import Task

_LENGTH = 35


@dataclass(frozen=True, kw_only=True)
class LanguageTask(Task):
    """The first words of the Penn Treebank, with all words of its vocabulary, in an AWD-LSTM of one layer.

    It has the dropout of an AWD-LSTM at its inputs and outputs. The methods' masks, of units at the recurrent
    connections, take the place of its dropout of weights. The seed tells the weights and the masks. Perplexity is
    compared.

    Args:
        units: of the layer, and features of a word.
        decay_after: epochs with the full rate; then each has half of the one before.
    """

    metric: ClassVar[str] = "val/loss"
    tested: ClassVar[str] = "test/perplexity"
    clip: ClassVar[float] = 0.25
    methods: ClassVar[tuple[str, ...]] = LANGUAGE
    folder: ClassVar[str] = "language"

    n_train: int = 50_000
    batch_size: int = 20
    rate: float = 20.0
    units: int = 128
    decay_after: int = 8

    @property
    def steps_per_epoch(self) -> int:
        """Batches of 35 words from each of the texts that are read side by side."""
        return math.ceil((self.n_train // self.batch_size - 1) / _LENGTH)

    def data(self, seed: int) -> L.LightningDataModule:
        """Make the data module, which is the same for each seed."""
        return PennTreebankDataModule(
            batch_size=self.batch_size,
            test_batch_size=10,
            length=_LENGTH,
            random_lengths=False,
            train_tokens=self.n_train,
        )

    def model(self) -> Callable[[], L.LightningModule]:
        """Return what makes the model."""
        return partial(
            LanguageModelingTask,
            embedding_size=self.units,
            num_layers=1,
            word_dropout=0.1,
            input_dropout=0.4,
            output_dropout=0.4,
            weight_dropout=0.0,
            learning_rate=self.rate,
            reference_length=None,
            rate_decay=0.5,
            decay_after=self.decay_after,
        )

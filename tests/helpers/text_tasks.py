"""Small tasks of documents, and what tests do with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from lightning_advdrop import TextClassificationTask, TextPretrainingTask
from lightning_advdrop.datamodules.text_batches import TextBatch
from tests.helpers.documents import Documents, words_of
from tests.helpers.plain_models import quiet_trainer

SIZES: dict[str, Any] = {"embedding_size": 8, "hidden_size": 16}


def small_classifier(**kwargs: Any) -> TextClassificationTask:
    L.seed_everything(5, verbose=False)
    defaults = {**SIZES, "classifier_size": 6, "dropout": 0.2, "learning_rate": 1e-2}
    return TextClassificationTask(**(defaults | kwargs))


def small_pretraining(**kwargs: Any) -> TextPretrainingTask:
    L.seed_everything(5, verbose=False)
    return TextPretrainingTask(**({**SIZES, "cutoffs": [6], "learning_rate": 1e-2} | kwargs))


def fit_steps(task: L.LightningModule, data: Documents, steps: int = 1, **trainer: Any) -> L.Trainer:
    """Trains for a few steps, without validation; returns the trainer."""
    made = quiet_trainer(max_steps=steps, max_epochs=-1, limit_val_batches=0, **trainer)
    made.fit(task, data)
    return made


def built(data: Documents, **kwargs: Any) -> TextClassificationTask:
    """A classifier with its network, without training to speak of."""
    task = small_classifier(learning_rate=1e-12, **kwargs)
    fit_steps(task, data)
    return task.eval()


def saved_classifier(folder: Path, data: Documents) -> tuple[TextClassificationTask, Path]:
    """A trained classifier and its checkpoint."""
    task = small_classifier()
    trainer = quiet_trainer(max_epochs=6, limit_val_batches=0)
    trainer.fit(task, data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return task, folder / "last.ckpt"


def as_text(batch: TextBatch) -> list[str]:
    """The documents as strings, without their end token."""
    words = words_of(2).words
    return [" ".join(words[i] for i in row[: n - 1]) for row, n in zip(batch.tokens, batch.lengths, strict=True)]


class Losses(L.Callback):
    """Writes down the training loss of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append(float(trainer.callback_metrics["train/loss"]))

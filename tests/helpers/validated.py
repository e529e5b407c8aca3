"""Networks with a validation, and what is logged in fits of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from tests.helpers.plain_models import PlainModel, loader, quiet_trainer

Rows = list[dict[str, str]]


class Validated(PlainModel):
    """Keeps everything in its attributes that a forward or a step may write to, and counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)
        self.accuracy = MulticlassAccuracy(3)
        self.by_hand = MulticlassAccuracy(3)
        self.hidden: Any = None
        self.seen: list[Tensor] = []
        self.steps = 0
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        if self.hidden is not None and self.hidden[0].shape[1] != len(x):
            self.hidden = None
        output, self.hidden = self.lstm(x, self.hidden)
        self.hidden = tuple(part.detach() for part in self.hidden)
        self.log("forwards", 1.0, on_step=False, on_epoch=True, reduce_fx="sum")
        self.calls.add_(1)  # type: ignore[operator] # in place
        noise = 0.01 * torch.randn(output.shape[-1])  # also where it predicts
        return self.head(self.dropout(self.norm(output[:, -1] + noise)))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.steps += 1
        logits = self(batch[0])
        self.seen.append(logits)
        self.accuracy(logits, batch[1])
        self.by_hand.update(logits, batch[1])
        self.log("val/loss", F.cross_entropy(logits, batch[1]))
        self.log("val/accuracy", self.accuracy)

    def on_validation_epoch_end(self) -> None:
        self.log("val/by_hand", self.by_hand.compute())
        self.by_hand.reset()  # under inference mode, so that its states are inference tensors from here on
        self.seen.clear()
        self.hidden = None


class Simple(PlainModel):
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))


def rows(folder: str) -> Rows:
    with Path(folder, "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fit(model: L.LightningModule, *callbacks: L.Callback, val: Any = None, **trainer: Any) -> tuple[Rows, L.Trainer]:
    """What is logged in a fit that always starts from the same seed."""
    L.seed_everything(3, verbose=False)
    logger = CSVLogger("logs")
    made = quiet_trainer(
        callbacks=list(callbacks), logger=logger, log_every_n_steps=1, **({"num_sanity_val_steps": 2} | trainer)
    )
    train = DataLoader(loader().dataset, batch_size=16, shuffle=True)
    made.fit(model, train, loader() if val is None else val)
    return rows(logger.log_dir), made

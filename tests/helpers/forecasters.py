"""Recurrent networks whose output is read and compared in many ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_advdrop import regularized_loss
from tests.helpers.plain_models import quiet_trainer

BATCH, STEPS = 8, 5


Read = Callable[[Tensor], Tensor]


Loss = Callable[[Tensor, Tensor], Tensor]


def last(output: Tensor) -> Tensor:
    return output[:, -1]


class Forecaster(L.LightningModule):
    """A recurrent network that reads its head's output ``(B, T, outputs)`` in any way, with any loss."""

    def __init__(self, outputs: int, loss: Loss, read: Read = last, layers: int = 1) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 6, num_layers=layers, batch_first=True)
        self.head = nn.Linear(6, outputs)
        self.loss, self.read = loss, read

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.head(self.gru(x)[0]))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Delegating(Forecaster):
    delegates_regularization = True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return regularized_loss(self, lambda: self(x), lambda p: self.loss(p, y), target=y).total


def data(target: Tensor, *more: Tensor) -> DataLoader[Any]:
    x = torch.randn(len(target), STEPS, 2, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, target, *more), batch_size=BATCH)


def fitted(model: Forecaster, target: Tensor, *callbacks: L.Callback, more: Any = (), **arguments: Any) -> L.Trainer:
    L.seed_everything(2, verbose=False)
    for part in (model.gru, model.head):
        part.reset_parameters()
    trainer = quiet_trainer(callbacks=list(callbacks), **({"max_epochs": 1} | arguments))
    loader = data(target, *more)
    trainer.fit(model, loader, loader)
    return trainer


def penalty(model: Forecaster, target: Tensor, callback: L.Callback, **arguments: Any) -> float:
    return fitted(model, target, callback, **arguments).callback_metrics["train/penalty"].item()

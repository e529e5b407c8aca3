"""LightningModules as a user would have written them, most of them knowing nothing of this package."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lightning_advdrop import regularized_loss

STEPS, FEATURES, CLASSES = 6, 4, 3


class PlainModel(L.LightningModule):
    """A two-layer LSTM classifier with dropout."""

    def __init__(self, hidden_size: int = 12) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, hidden_size, num_layers=2, dropout=0.1, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(hidden_size, CLASSES)

    def forward(self, x: Tensor) -> Any:
        output, _ = self.lstm(x)
        return self.head(self.dropout(output[:, -1]))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class QuietModel(PlainModel):
    """The same without anything random, trained by plain gradient descent."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm.dropout = 0.0
        self.dropout.p = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Delegating:
    """A module that asks for the penalties itself, as this package's own tasks do; beside one of the other models."""

    delegates_regularization = True

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        x, y = batch
        model: Any = self
        return regularized_loss(model, lambda: model(x), lambda logits: F.cross_entropy(logits, y), target=y).total


def learnable_data(examples: int = 64) -> tuple[Tensor, Tensor]:
    """Sequences whose class is the feature with the largest sum over time."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(examples, STEPS, FEATURES, generator=generator)
    return x, x[..., :CLASSES].sum(1).argmax(-1)


def loader(batch_size: int = 16, examples: int = 64) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*learnable_data(examples)), batch_size=batch_size)


class SplitModel(QuietModel):
    """Divides each batch of 16 examples among the processes; Lightning's own sampler would shuffle them."""

    def train_dataloader(self) -> DataLoader[Any]:
        data, world = TensorDataset(*learnable_data()), self.trainer.world_size
        sampler: DistributedSampler[Any] = DistributedSampler(data, world, self.trainer.global_rank, shuffle=False)
        return DataLoader(data, batch_size=16 // world, sampler=sampler)


def quiet_trainer(**kwargs: Any) -> L.Trainer:
    """A trainer on the CPU that writes nothing unless told to."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**(defaults | kwargs))


def fitted_weights(model: L.LightningModule, *callbacks: L.Callback, **trainer: Any) -> dict[str, Tensor]:
    """The weights after training with these callbacks, always from the same seed."""
    L.seed_everything(3, verbose=False)
    quiet_trainer(callbacks=list(callbacks), **trainer).fit(model, loader())
    return {name: value.clone() for name, value in model.state_dict().items()}


def seeded(factory: Any, *args: Any, **kwargs: Any) -> Any:
    """A module built from a fixed seed."""
    L.seed_everything(11, verbose=False)
    return factory(*args, **kwargs)

"""A module and data of a user's, in a file that knows nothing of this package."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Tagger(L.LightningModule):
    """A small LSTM classifier."""

    def __init__(self, hidden_size: int = 6) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0][:, -1])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Sequences(L.LightningDataModule):
    """Whether the sum of a sequence is above 0."""

    def loader(self, seed: int) -> DataLoader[Any]:
        x = torch.randn(32, 5, 3, generator=torch.Generator().manual_seed(seed))
        return DataLoader(TensorDataset(x, (x.sum((1, 2)) > 0).long()), batch_size=16)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader(0)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(1)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader(2)

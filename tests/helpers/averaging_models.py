"""Small models whose validation loss is scripted, and a callback that writes down their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_advdrop.datamodules.contiguous import ContiguousBatches
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.releases import SAFE

STEPS_AN_EPOCH = 4


def text(steps: int = 12) -> Any:
    tokens = torch.randint(7, (2 * steps + 2,), generator=torch.Generator().manual_seed(5))
    return ContiguousBatches(tokens, batch_size=2, length=3)


class Scripted(L.LightningModule):
    """Predicts each next token from the one before; its validation loss is the next number of a script."""

    def __init__(self, script: Sequence[float] = (3.0, 2.0, 2.5, 2.4, 2.3, 2.2, 2.1, 2.0)) -> None:
        super().__init__()
        self.script = list(script)
        self.embedding = torch.nn.Embedding(7, 5)
        self.norm = torch.nn.BatchNorm1d(5)
        self.head = torch.nn.Linear(5, 7)
        self.validated: list[Tensor] = []
        self.tested: list[Tensor] = []
        self.held: Any = None

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.embedding(tokens).flatten(0, 1)))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.held = self(batch[0])  # a tensor with a graph, which nothing can copy
        return torch.nn.functional.cross_entropy(self.held, batch[1].flatten())

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self.validated.append(flat(self))
        self.log("val/loss", self.script[self.trainer.current_epoch])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if batch_idx == 0:
            self.tested.append(flat(self))

    def train_dataloader(self) -> Any:
        return text()

    val_dataloader = test_dataloader = train_dataloader

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)


class Alternating(Scripted):
    """Steps two optimizers in each batch, itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            optimizer.step()
        return loss.detach()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.5) for part in (self.embedding, self.head)]


class Weights(L.Callback):
    """Writes down the weights after each step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: L.LightningModule, *args: Any) -> None:
        self.seen.append(flat(pl_module))


def flat(module: torch.nn.Module) -> Tensor:
    """All parameters, as one vector."""
    return torch.cat([parameter.detach().flatten().clone() for parameter in module.parameters()])


def flat_state(model: torch.nn.Module, state: dict[str, Tensor]) -> Tensor:
    """The parameters of a state_dict, in the order of `flat`."""
    return torch.cat([state[name].flatten() for name, _ in model.named_parameters()])


def every_step(folder: Path) -> ModelCheckpoint:
    """A checkpoint after each step, named after it."""
    return ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)


def averaged_fit(model: L.LightningModule, *callbacks: L.Callback, ckpt_path: Any = None, **trainer: Any) -> L.Trainer:
    """Trains with a fixed seed, and checkpoints where a callback saves some."""
    L.seed_everything(3, verbose=False)
    saves = any(isinstance(each, ModelCheckpoint) for each in callbacks)
    made = quiet_trainer(callbacks=list(callbacks), **{"enable_checkpointing": saves, "max_epochs": 8, **trainer})
    made.fit(model, ckpt_path=ckpt_path, **SAFE)
    return made

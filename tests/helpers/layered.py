"""A network of two parts, with training steps that call it, or its parts, in many ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.plain_models import CLASSES, FEATURES

Step = Callable[["Layered", Tensor, Tensor], Tensor]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 12, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.lstm(x)[0][:, -1]


class Layered(L.LightningModule):
    """An encoder and a head, with a step that is given to it."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(12, CLASSES)
        self.step = step

    def forward(self, x: Tensor, *, frozen: bool = False) -> Any:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return self.head(self.encoder(x))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return self.step(self, *batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.step(self, *batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    loss: Tensor = F.cross_entropy(model(x), y)
    return loss


def features_after(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    features: Tensor = model.encoder(x)
    return plain(model, x, y) + 0 * features.square().mean()


def features_before(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    features: Tensor = model.encoder(x)
    return 0 * features.square().mean() + plain(model, x, y)


def layer_before(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    state: Tensor = model.encoder.lstm(x)[0]
    return 0 * state.square().mean() + plain(model, x, y)


def pseudo_labels(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        model(2 * x).argmax(-1)
    return plain(model, x, y)


def inference_mode(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    with torch.inference_mode():
        model(2 * x).argmax(-1)
    return plain(model, x, y)


def accuracy_in_eval_mode(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    loss = plain(model, x, y)
    model.eval()
    model(2 * x).argmax(-1).eq(y)
    model.train()
    return loss


def detached(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    teacher: Tensor = model(2 * x).detach()
    return plain(model, x, y) + 0 * teacher.mean()


def frozen_inside(model: Layered, x: Tensor, y: Tensor) -> Tensor:
    model(2 * x, frozen=True)
    return plain(model, x, y)


ALIKE: list[Step] = [
    features_after,
    features_before,
    layer_before,
    pseudo_labels,
    inference_mode,
    accuracy_in_eval_mode,
    detached,
    frozen_inside,
]

"""Models that change what they are given, and steps that call more than one module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, Recurrent, Small, model

KIND = "inputs and calls"


@model("x /= 2", KIND)
class Halving(Recurrent):
    def forward(self, x: Tensor) -> Any:
        x /= 2
        return super().forward(x)


@model("x[:, 0] += 1", KIND)
class FirstStep(Recurrent):
    def forward(self, x: Tensor) -> Any:
        x[:, 0] += 1
        return super().forward(x)


@model("a view of the batch, changed in place", KIND)
class ViewOfBatch(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(batch[0][:, 1:]), batch[1])

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.mul_(1.5))


@model("a list that is emptied", KIND)
class Emptying(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(list(batch[0].unbind(1))), batch[1])

    def forward(self, steps: list[Tensor]) -> Any:
        taken = []
        while steps:
            taken.append(steps.pop())
        return super().forward(torch.stack(taken, 1))


@model("a dictionary that gets new entries", KIND)
class Adding(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self({"x": batch[0]}), batch[1])

    def forward(self, parts: dict[str, Tensor]) -> Any:
        parts["x"] = parts["x"] + parts.get("hidden", torch.zeros(1))
        parts["hidden"] = parts["x"].mean((1, 2), keepdim=True)
        return super().forward(parts["x"])


@model("an iterator that is used up", KIND)
class UsingUp(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(iter(batch[0].unbind(1))), batch[1])

    def forward(self, steps: Iterator[Tensor]) -> Any:
        return super().forward(torch.stack(list(steps), 1))


@model("a NumPy array changed in place", KIND)
class NumPyInput(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(batch[0].numpy().copy()), batch[1])

    def forward(self, x: Any) -> Any:
        x += np.float32(0.5)
        return super().forward(torch.from_numpy(x.copy()))


@model("an argument that the step changes afterwards", KIND)
class Afterwards(Recurrent):
    def step(self, batch: Any) -> Any:
        x, y = batch
        logits = self(x)
        x.zero_()
        return F.cross_entropy(logits, y)


@model("labels that are popped from the batch", KIND, arguments={"target": "labels"})
class Popping(Recurrent):
    def batch(self, number: int) -> Any:
        x, y = super().batch(number)
        return {"x": x, "labels": y}

    def forward(self, x: Tensor) -> Any:
        return super().forward(x)

    def step(self, batch: Any) -> Any:
        labels = batch.pop("labels")
        return F.cross_entropy(self(**batch), labels)


@model("padding that is popped from the batch", KIND, arguments={"target": "labels", "padding_mask": "real"})
class PoppedPadding(Popping):
    def batch(self, number: int) -> Any:
        return super().batch(number) | {"real": torch.arange(BATCH) < BATCH - 1}

    def step(self, batch: Any) -> Any:
        labels, real = batch.pop("labels"), batch.pop("real")
        return F.cross_entropy(self(**batch)[real], labels[real])


@model("self(x) and self.encoder(x)", KIND)
class Auxiliary(Small):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.LSTM(FEATURES, HIDDEN, batch_first=True), _Last())
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.encoder(x))

    def step(self, batch: Any) -> Any:
        features = self.encoder(batch[0])
        return F.cross_entropy(self(batch[0]), batch[1]) + 0.1 * features.square().mean()


class _Last(nn.Module):
    def forward(self, found: tuple[Tensor, Any]) -> Tensor:
        return found[0][:, -1]


@model("siamese: two calls of one network", KIND, method={"divergence": "mse"},
       refused={"targets": ("target",), "AdversarialTrainingCallback": ("loss='auto'",)})  # fmt: skip
class Siamese(Recurrent):
    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, x.flip(1) + 0.1, torch.tensor([0.0, 1.0, 1.0, 0.0])

    def step(self, batch: Any) -> Any:
        first, second, same = batch
        distance = (self(first) - self(second)).norm(dim=-1)
        return F.binary_cross_entropy_with_logits(1 - distance, same)


@model("triplets, of which the second call counts", KIND, arguments={"call": 1}, method={"divergence": "mse"},
       refused={"targets": ("target",)})  # fmt: skip
class Triplet(Recurrent):
    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, (x + 0.1, x.flip(0))

    def step(self, batch: Any) -> Any:
        anchor, (positive, negative) = batch
        return F.triplet_margin_loss(self(anchor), self(positive), self(negative))


def _own_row(batch: Any) -> Tensor:
    return torch.arange(len(batch[0]))


@model("two towers", KIND, arguments={"target": _own_row})
class Towers(Small):
    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({name: nn.GRU(FEATURES, HIDDEN, batch_first=True) for name in ("left", "right")})

    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x, x.cumsum(1)

    def forward(self, left: Tensor, right: Tensor) -> Any:
        return self.towers["left"](left)[0][:, -1] @ self.towers["right"](right)[0][:, -1].T

    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(*batch), torch.arange(BATCH))


@model("pseudo labels by a forward under no_grad", KIND, arguments={"call": 1})
class PseudoLabels(Recurrent):
    def step(self, batch: Any) -> Any:
        x, y = batch
        with torch.no_grad():
            sure = self(x).softmax(-1).amax(-1)
        return (F.cross_entropy(self(x), y, reduction="none") * sure).mean()


@model("a forward under no_grad, and no word about it", KIND)
class Unsaid(PseudoLabels):
    pass


@model("a forward in eval mode within the step", KIND, arguments={"call": 1})
class Evaluating(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES)

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.norm(x.transpose(1, 2)).transpose(1, 2))

    def step(self, batch: Any) -> Any:
        training = self.training
        self.eval()
        with torch.no_grad():
            target = self(batch[0]).softmax(-1)
        self.train(training)
        logits = self(batch[0])
        return F.cross_entropy(logits, batch[1]) + F.mse_loss(logits.softmax(-1), target)

"""Models with buffers, and with parameters that are written in the forward."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, Recurrent, Small, model

KIND = "buffers and copies"


@model("batch normalisation", KIND)
class Normalised(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(HIDDEN)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.norm(self.lstm(x)[0][:, -1]))


@model("running statistics by hand", KIND)
class RunningMean(Recurrent):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))

    def forward(self, x: Tensor) -> Any:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 1))
        return super().forward(x - self.mean)


@model("a queue of negatives (MoCo) with a momentum encoder", KIND)
class Momentum(Recurrent):
    queue: Tensor
    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.key_lstm, self.key_head = copy.deepcopy(self.lstm), copy.deepcopy(self.head)
        for parameter in (*self.key_lstm.parameters(), *self.key_head.parameters()):
            parameter.requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(8, CLASSES), dim=-1))
        self.register_buffer("place", torch.zeros(1, dtype=torch.long))

    def forward(self, x: Tensor) -> Any:
        query = F.normalize(super().forward(x), dim=-1)
        with torch.no_grad():
            for mine, key in ((self.lstm, self.key_lstm), (self.head, self.key_head)):
                for p, k in zip(mine.parameters(), key.parameters(), strict=True):
                    k.mul_(0.9).add_(p, alpha=0.1)
            keys = F.normalize(self.key_head(self.key_lstm(x.flip(1))[0][:, -1]), dim=-1)
        logits = torch.cat([(query * keys).sum(-1, keepdim=True), query @ self.queue.T.clone()], 1) / 0.2
        start = int(self.place)
        self.queue[start : start + BATCH] = keys
        self.place[0] = (start + BATCH) % len(self.queue)
        return logits

    def step(self, batch: Any) -> Any:
        logits = self(batch[0])
        return F.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long))


@model("an EMA teacher updated in the forward", KIND)
class Teacher(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(HIDDEN, CLASSES).requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        if self.training:
            for old, new in zip(self.teacher.parameters(), self.head.parameters(), strict=True):
                old.data = 0.8 * old.data + 0.2 * new.data
        return self.head(hidden) + 0.5 * self.teacher(hidden)


@model("an EMA teacher updated in the step", KIND)
class StepTeacher(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.head).requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0][:, -1])

    def step(self, batch: Any) -> Any:
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.head.parameters(), strict=True):
                old.lerp_(new, 0.2)
        logits = self(batch[0])
        return F.cross_entropy(logits, batch[1]) + F.mse_loss(
            logits, self.teacher(torch.ones(HIDDEN)).expand(BATCH, -1)
        )


@model("centres of a centre loss, written in the forward", KIND)
class Centres(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(CLASSES, HIDDEN), requires_grad=False)

    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        with torch.no_grad():
            self.centres[:] = 0.9 * self.centres + 0.1 * hidden.mean(0)
        return -torch.cdist(hidden, self.centres.clone())


@model("a memory bank in a dictionary of buffers", KIND)
class MemoryBank(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.bank: dict[str, Any] = {"keys": torch.zeros(BATCH, CLASSES), "used": [0] * BATCH}

    def forward(self, x: Tensor) -> Any:
        keys = self.bank["keys"]
        logits = super().forward(x) + keys.clone()
        keys.mul_(0.5).add_(logits.detach(), alpha=0.5)
        self.bank["used"] = [n + 1 for n in self.bank["used"]]
        return logits


@model("vector quantisation with EMA codes", KIND)
class Quantised(Recurrent):
    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(5, HIDDEN))

    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        nearest = torch.cdist(hidden, self.codes).argmin(-1)
        code = self.codes[nearest]
        if self.training:
            self.codes.index_add_(0, nearest, 0.1 * (hidden.detach() - code))
        return self.head(hidden + 0.5 * (code - hidden).detach())


@model("mixture of experts with top-k routing and loads", KIND)
class Experts(Recurrent):
    load: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(HIDDEN, 4)
        self.experts = nn.ModuleList([nn.Linear(HIDDEN, CLASSES) for _ in range(4)])
        self.register_buffer("load", torch.zeros(4))
        self.balance: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        scores, chosen = (self.router(hidden) - 0.1 * self.load).topk(2)
        self.load += F.one_hot(chosen, 4).sum((0, 1))
        self.balance = scores.softmax(-1).square().mean()
        outputs = torch.stack([expert(hidden) for expert in self.experts], 1)
        return (scores.softmax(-1).unsqueeze(-1) * outputs.gather(1, chosen.unsqueeze(-1).expand(-1, -1, CLASSES))).sum(
            1
        )

    def step(self, batch: Any) -> Any:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        assert self.balance is not None
        return loss + 0.01 * self.balance


class Cache(nn.Module):
    """Keeps the results of the last call."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape not in self.results:
            self.results[x.shape] = torch.randn(x.shape[1:])
        return x + self.results[x.shape]


@model("a cache by shape that is filled with noise", KIND)
class Caching(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.cache(x))


@model("a layer that is made at the first call", KIND)
class Lazy(Small):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.extra: nn.Module | None = None

    def forward(self, x: Tensor) -> Any:
        if self.extra is None:
            self.extra = nn.Linear(HIDDEN, HIDDEN)
        return self.head(self.extra(self.gru(x)[0][:, -1]))

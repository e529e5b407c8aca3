"""Models that carry a hidden state from batch to batch, in every container."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, Small, model

KIND = "carried state"


class Carrying(Small):
    """Starts each batch from the hidden state in which the last one ended."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.start(torch.zeros(1, BATCH, HIDDEN))

    def start(self, hidden: Tensor) -> None:
        raise NotImplementedError

    def recall(self) -> Tensor:
        raise NotImplementedError

    def keep(self, hidden: Tensor) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        output, hidden = self.gru(x, self.recall())
        self.keep(hidden.detach())
        return self.head(output[:, -1])


@model("state in an attribute", KIND)
class InAttribute(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.hidden = hidden

    def recall(self) -> Tensor:
        return self.hidden

    keep = start


@model("state in a buffer written in place", KIND)
class InBuffer(Carrying):
    hidden: Tensor

    def start(self, hidden: Tensor) -> None:
        self.register_buffer("hidden", hidden)

    def recall(self) -> Tensor:
        return self.hidden.clone()

    def keep(self, hidden: Tensor) -> None:
        self.hidden.copy_(hidden)


@model("state in a list", KIND)
class InList(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.states = [hidden]

    def recall(self) -> Tensor:
        return self.states[-1]

    def keep(self, hidden: Tensor) -> None:
        self.states.append(hidden)


@model("state in a dictionary", KIND)
class InDict(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.states = {"gru": {"h": hidden}}

    def recall(self) -> Tensor:
        return self.states["gru"]["h"]

    def keep(self, hidden: Tensor) -> None:
        self.states["gru"]["h"] = hidden


@model("state in an OrderedDict", KIND)
class InOrderedDict(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.states = OrderedDict(h=hidden)

    def recall(self) -> Tensor:
        return self.states["h"]

    def keep(self, hidden: Tensor) -> None:
        self.states["h"] = hidden
        self.states.move_to_end("h")


@model("state in a tuple, written in place", KIND)
class InTuple(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.states = (hidden, 0)

    def recall(self) -> Tensor:
        return self.states[0].clone()

    def keep(self, hidden: Tensor) -> None:
        self.states[0].copy_(hidden)


@model("state in a deque", KIND)
class InDeque(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.states = deque([hidden, hidden], maxlen=2)

    def recall(self) -> Tensor:
        return (self.states[0] + self.states[1]) / 2

    def keep(self, hidden: Tensor) -> None:
        self.states.append(hidden)


@dataclass
class State:
    h: Tensor
    step: int = 0


@model("state in a dataclass", KIND)
class InDataclass(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.state = State(hidden)

    def recall(self) -> Tensor:
        return self.state.h

    def keep(self, hidden: Tensor) -> None:
        self.state.h = hidden
        self.state.step += 1


class Pair(NamedTuple):
    h: Tensor
    seen: list[int]


@model("state in a NamedTuple", KIND)
class InNamedTuple(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.state = Pair(hidden, [])

    def recall(self) -> Tensor:
        return self.state.h

    def keep(self, hidden: Tensor) -> None:
        self.state.seen.append(len(hidden))
        self.state = Pair(hidden, self.state.seen)


class Memory:
    """A user's own class, with slots."""

    __slots__ = ("count", "h")

    def __init__(self, h: Tensor) -> None:
        self.h = h
        self.count = 0

    def write(self, h: Tensor) -> None:
        self.h = 0.5 * self.h + 0.5 * h
        self.count += 1


@model("state in an object with slots", KIND)
class InObject(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.memory = Memory(hidden)

    def recall(self) -> Tensor:
        return self.memory.h

    def keep(self, hidden: Tensor) -> None:
        self.memory.write(hidden)


@model("state in a namespace of a namespace", KIND)
class InNamespace(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.run = SimpleNamespace(state=SimpleNamespace(h=hidden))

    def recall(self) -> Tensor:
        return self.run.state.h  # type: ignore[no-any-return]

    def keep(self, hidden: Tensor) -> None:
        self.run.state.h = hidden


@model("state in a NumPy array", KIND)
class InNumPy(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.array = hidden.numpy().copy()

    def recall(self) -> Tensor:
        return torch.from_numpy(self.array.copy())

    def keep(self, hidden: Tensor) -> None:
        self.array[:] = hidden.numpy()
        np.clip(self.array, -0.9, 0.9, out=self.array)


@model("state in a tensor that shares memory with NumPy", KIND)
class InSharedMemory(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.array = hidden.numpy().copy()
        self.hidden = torch.from_numpy(self.array)

    def recall(self) -> Tensor:
        return self.hidden.clone()

    def keep(self, hidden: Tensor) -> None:
        self.array *= 0.5
        self.array += 0.5 * hidden.numpy()


@model("state in a module that is not registered", KIND)
class InUnregistered(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.parts = [nn.Identity()]
        self.parts[0].register_buffer("h", hidden)

    def recall(self) -> Tensor:
        return self.parts[0].h.clone()  # type: ignore[operator]

    def keep(self, hidden: Tensor) -> None:
        self.parts[0].h.copy_(hidden)  # type: ignore[operator]


@model("state keyed by the stage, with a graph of one step", KIND)
class Keyed(Carrying):
    def start(self, hidden: Tensor) -> None:
        self.states: dict[bool, tuple[Tensor, ...]] = {True: (hidden,), False: (hidden,)}

    def recall(self) -> Tensor:
        return self.states[self.training][0].detach()

    def forward(self, x: Tensor) -> Any:
        output, hidden = self.gru(x, self.recall())
        self.states[self.training] = (hidden,)
        return self.head(output[:, -1])

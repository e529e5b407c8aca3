"""Models in corners that few people visit: what can't be copied, other threads, gradients within the forward."""

from __future__ import annotations

import itertools
import logging
import tempfile
import threading
import weakref
from collections import Counter, UserDict, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, Recurrent, Small, model

KIND = "corners"
#: What needs no gradient through a masked pass of the kind of the base pass.
NO_MASK = ("VariationalDropoutCallback", "ExpectationLinearDropoutCallback")


@model("attributes that can't be copied", KIND)
class Uncopyable(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.log_to = logging.getLogger("zoo")
        self.self_ = weakref.ref(self)
        self.calls = [0]

    def forward(self, x: Tensor) -> Any:
        with self.lock:
            self.calls[0] += 1
        return super().forward(x * (1 + self.calls[0] % 2))


def _halving() -> Iterator[float]:
    for n in itertools.count(1):
        yield 1 / n


@model("a Python generator that is advanced", KIND, refused={"all": ("generator",)})
class PythonGenerator(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.scales = _halving()

    def forward(self, x: Tensor) -> Any:
        return super().forward(x * next(self.scales))


class Helper:
    """Knows the module that has it."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.hidden = torch.zeros(1, BATCH, HIDDEN)


@model("a helper that refers to the module", KIND)
class Circular(Small):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)
        self.helper = Helper(self)

    def forward(self, x: Tensor) -> Any:
        output, hidden = self.gru(x, self.helper.hidden)
        self.helper.hidden = hidden.detach()
        return self.head(output[:, -1])


@model("state keyed by the layer, weakly", KIND)
class Weakly(Small):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)
        self.states = weakref.WeakKeyDictionary({self.gru: torch.zeros(1, BATCH, HIDDEN)})

    def forward(self, x: Tensor) -> Any:
        output, hidden = self.gru(x, self.states[self.gru])
        self.states[self.gru] = hidden.detach()
        return self.head(output[:, -1])


@model("a set, a counter, a default dictionary and bytes", KIND)
class Collections(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.totals: defaultdict[str, int] = defaultdict(int)
        self.bytes = bytearray(1)

    def forward(self, x: Tensor) -> Any:
        self.seen.add(len(self.seen))
        self.counts.update(["x"])
        self.totals["x"] += 1
        self.bytes[0] += 1
        state = len(self.seen) + self.counts["x"] + self.totals["x"] + self.bytes[0]
        return super().forward(x * (1 + 0.1 * state))


@model("hyperparameters that are changed", KIND)
class Hyper(Recurrent):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.save_hyperparameters()

    def forward(self, x: Tensor) -> Any:
        self.hparams["scale"] = self.hparams["scale"] * 0.8
        return super().forward(x * self.hparams["scale"])


@model("a layer that runs in another thread", KIND, refused={"all": ("took part",)})
class Threaded(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Any:
        with torch.random.fork_rng(), ThreadPoolExecutor(1) as pool:
            return pool.submit(super().forward, x).result()


def _mean_input(batch: Any) -> Tensor:
    return batch[0].mean(1)  # type: ignore[no-any-return]


@model("a prediction that is itself a gradient", KIND, arguments={"target": _mean_input},
       refused={"all": ("sites", "once"), "perturbations": (), **dict.fromkeys(NO_MASK, ())})  # fmt: skip
class Energy(Recurrent):
    def forward(self, x: Tensor) -> Any:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = super().forward(x).square().sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0].mean(1)

    def step(self, batch: Any) -> Any:
        return F.mse_loss(self(batch[0]), batch[0].mean(1))


@model("a fixed point under no_grad, then one step with a graph", KIND)
class FixedPoint(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x: Tensor) -> Any:
        hidden = self.lstm(x)[0][:, -1]
        with torch.no_grad():
            z = torch.zeros_like(hidden)
            for _ in range(3):
                z = torch.tanh(self.inner(z) + hidden)
        return self.head(torch.tanh(self.inner(z) + hidden))


@model("a frozen backbone in inference mode", KIND, drops=True)
class Backbone(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.Dropout(0.3)).requires_grad_(False)

    def forward(self, x: Tensor) -> Any:
        with torch.inference_mode():
            features = self.backbone(x)
        return super().forward(features.clone())


@model("a sparse batch", KIND)
class Sparse(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(batch[0].relu().to_sparse()), batch[1])

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.to_dense())


@model("a packed sequence as an argument", KIND)
class PackedArgument(Small):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def step(self, batch: Any) -> Any:
        packed = pack_padded_sequence(batch[0], torch.tensor([5, 4, 2, 1]), batch_first=True)
        return F.cross_entropy(self(packed), batch[1])

    def forward(self, packed: PackedSequence) -> Any:
        packed.data.mul_(1.5)
        return self.head(self.gru(packed)[1][0])


class Example:
    """A user's own batch."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.history = [x]


@model("an object as an argument, changed", KIND)
class ObjectArgument(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(Example(batch[0])), batch[1])

    def forward(self, example: Example) -> Any:
        example.x = example.x + len(example.history)
        example.history.append(example.x)
        return super().forward(example.x)


@model("a UserDict that is emptied", KIND)
class UserDictArgument(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self(UserDict(x=batch[0])), batch[1])

    def forward(self, batch: UserDict[str, Tensor]) -> Any:
        return super().forward(batch.pop("x"))


class Net(nn.Module):
    """Changes activations that others computed."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        x += 1
        return self.head(self.lstm(x)[0][:, -1])


@model("activations with a graph, changed in place", KIND, arguments={"module": "net"})
class GraphArgument(Small):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.net = nn.Linear(FEATURES, FEATURES), Net()

    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self.net(self.embed(batch[0])), batch[1])


def _labels(batch: Any) -> Any:
    return batch["labelled"][1]


@model("labelled and unlabelled batches", KIND, arguments={"call": 0, "target": _labels})
class SemiSupervised(Recurrent):
    def batch(self, number: int) -> Any:
        return {"labelled": super().batch(number), "unlabelled": super().batch(50 + number)[0]}

    def step(self, batch: Any) -> Any:
        x, y = batch["labelled"]
        other = self(x), self(batch["unlabelled"]).log_softmax(-1)
        return F.cross_entropy(other[0], y) - 0.1 * (other[1].exp() * other[1]).sum(-1).mean()


@model("a prediction computed in the step", KIND, refused={"all": ("module", "step")})
class InStep(Recurrent):
    def step(self, batch: Any) -> Any:
        return F.cross_entropy(self.head(self.lstm(batch[0])[0][:, -1]), batch[1])


@model("a step without an index", KIND)
class WithoutIndex(Recurrent):
    def training_step(self, batch: Any) -> Any:  # type: ignore[override]
        return self.step(batch)


@model("second-order quasi-Newton steps", KIND)
class QuasiNewton(Recurrent):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


@model("a sub-module that is replaced and put back", KIND)
class Swapping(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(HIDDEN, CLASSES), nn.Linear(HIDDEN, CLASSES)])

    def forward(self, x: Tensor) -> Any:
        self.head: Any = self.heads[0]
        self.heads[0], self.heads[1] = self.heads[1], self.heads[0]
        return super().forward(x)

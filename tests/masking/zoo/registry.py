"""The table of models: what each one is, where masks act in it, and who refuses it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH, STEPS, FEATURES, HIDDEN, CLASSES, WORDS = 4, 5, 3, 6, 3, 9
#: Batches of an epoch, in training and in validation.
BATCHES = 2

ROUNDING = 2e-5

Words = tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Attributes:
        name: of the model, in a few words.
        kind: of what it has that other models don't.
        make: makes it.
        sites: where masks act.
        shifts: where perturbations act; a kind that the model has no place for where they make no sense.
        arguments: of every callback.
        monitor: arguments of the monitor that differ from those.
        method: arguments of the methods that have them, such as the divergence.
        drops: whether the network drops units itself, apart from the sites.
        refused: words of the message, by the names of the callbacks that refuse the model (see `refusal`).
        trainer: arguments of the trainer.
        rounding: of a prediction of the size of 1; the stock layers and ours add up in different orders.
    """

    name: str
    kind: str
    make: Callable[[], Small]
    sites: Any = "recurrent"
    shifts: Any = "input"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    monitor: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    drops: bool = False
    refused: Mapping[str, Words] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    rounding: float = ROUNDING

    def refusal(self, callback: str, *groups: str) -> Words | None:
        """Return the words that a callback's refusal must have: its own, else its group's, else everybody's."""
        found = [self.refused[name] for name in (callback, *groups, "all") if name in self.refused]
        return found[0] if found and found[0] else None


ZOO: dict[str, Entry] = {}


def model(name: str, kind: str, **settings: Any) -> Callable[[type[Small]], type[Small]]:
    """Add a class of models to the zoo."""

    def add(found: type[Small]) -> type[Small]:
        # Pytest imports a file once more to look for examples in it.
        assert name not in ZOO or ZOO[name].make.__qualname__ == found.__qualname__, name
        ZOO[name] = Entry(name, kind, found, **settings)
        return found

    return add


class Batches:
    """The batches of an epoch, each a copy, as a loader would read it anew."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return (copy.deepcopy(batch) for batch in self._batches)


_MADE: dict[tuple[type[Small], int], Batches] = {}


class Small(L.LightningModule):
    """A classifier of sequences, trained by gradient descent with momentum; subclasses say what is different."""

    def batch(self, number: int) -> Any:
        """Make a batch, always the same for a number."""
        torch.manual_seed(100 + number)
        return torch.randn(BATCH, STEPS, FEATURES), torch.randint(CLASSES, (BATCH,))

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction, target)

    def step(self, batch: Any) -> Any:
        x, y = batch
        return self.loss(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.step(batch)
        self.log("train/loss", loss, batch_size=BATCH)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val/loss", self.step(batch), batch_size=BATCH)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1, momentum=0.9)

    def train_dataloader(self) -> Any:
        return self._batches(0)

    def val_dataloader(self) -> Any:
        return self._batches(10)

    def _batches(self, first: int) -> Batches:
        if (type(self), first) not in _MADE:
            with torch.random.fork_rng():
                _MADE[type(self), first] = Batches([self.batch(first + number) for number in range(BATCHES)])
        return _MADE[type(self), first]


class Recurrent(Small):
    """An LSTM with a linear layer behind its last step."""

    def __init__(self, **layer: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, **layer)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, *args: Any) -> Any:
        (x,) = args
        return self.head(self.lstm(x)[0][:, -1])


class Tokens(Small):
    """Batches of tokens instead of numbers."""

    def batch(self, number: int) -> Any:
        torch.manual_seed(100 + number)
        return torch.randint(1, WORDS, (BATCH, STEPS)), torch.randint(CLASSES, (BATCH,))


class Numbers(Recurrent):
    """A regression of the next values."""

    def batch(self, number: int) -> Any:
        torch.manual_seed(100 + number)
        return torch.randn(BATCH, STEPS, FEATURES), torch.randn(BATCH, CLASSES)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.mse_loss(prediction, target)

"""Small recurrent models, and counting which torch functions really run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class CallCounter(TorchFunctionMode):
    """Counts the torch functions, by name, that are computed while it is on; entered outside the code under test."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names[getattr(func, "__name__", str(func))] += 1
        return func(*args, **(kwargs or {}))


class Tagger(nn.Module):
    """A classifier of sequences ``(B, T, features)`` with noise wherever there can be some.

    Args:
        features: the size of the input's last dimension.
        units: hidden units of each direction.
        dropout: the rate of every dropout: before, between and after the layers, and a functional one.
        layers: recurrent layers.
        bidirectional: whether there is a reverse direction.
        classes: the number of logits.
    """

    def __init__(
        self,
        features: int = 4,
        units: int = 6,
        dropout: float = 0.0,
        layers: int = 1,
        bidirectional: bool = False,
        classes: int = 3,
    ) -> None:
        super().__init__()
        self.rate = dropout
        self.before = nn.Sequential(nn.Linear(features, 5), nn.Tanh(), nn.Dropout(dropout))
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(5, units, layers, batch_first=True, bidirectional=bidirectional, dropout=between)
        self.after = nn.Dropout(dropout)
        self.out = nn.Linear(units * (2 if bidirectional else 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.before(x))
        last = F.dropout(self.after(hidden[:, -1]), self.rate, self.training)
        logits: Tensor = self.out(last)
        return logits


class Carrying(nn.Module):
    """A model with state: batch normalisation, a hidden state that goes from call to call, and a count of calls."""

    hidden: tuple[Tensor, Tensor] | None

    def __init__(self, units: int = 5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.lstm = nn.LSTM(3, units)
        self.out = nn.Linear(units, 2)
        self.hidden = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:  # (T, B, 3)
        self.calls += 1
        x = self.norm(x.flatten(0, 1)).view_as(x)
        output, hidden = self.lstm(x, self.hidden)
        self.hidden = (hidden[0].detach(), hidden[1].detach())
        logits: Tensor = self.out(output[-1])
        return logits


def random_mask(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A mask of random positive numbers; masks need not be binary."""
    return torch.rand(*shape, dtype=dtype) + 0.25


def parameter_gradients(loss: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """The gradients of a loss by the parameters' names."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return dict(zip(names, gradients, strict=True))


class Stack(nn.Module):
    """An embedding and two recurrent modules with a layer before each and dropout between, for every kind of site."""

    def __init__(self, dropout: float = 0.3, layer: Any = nn.LSTM) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, padding_idx=0)
        self.lift = nn.Linear(4, 5)
        self.drop = nn.Dropout(dropout)
        self.lower = layer(5, 6, 2, dropout=dropout)
        self.between = nn.Linear(6, 6)
        self.upper = layer(6, 6)
        self.out = nn.Linear(6, 3)
        self.rate = dropout

    def forward(self, words: Tensor) -> Tensor:  # (T, B)
        x = torch.tanh(self.lift(self.table(words)))
        hidden, _ = self.lower(x + self.drop(x))
        hidden, _ = self.upper(torch.sigmoid(self.between(hidden)))
        logits: Tensor = self.out(F.dropout(hidden[-1], self.rate, self.training))
        return logits

"""Recurrent networks: layers and cells of all kinds, layouts, packed sequences, decoders."""

from __future__ import annotations

import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.masking.zoo.registry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    STEPS,
    WORDS,
    Recurrent,
    Small,
    Tokens,
    model,
)

KIND = "recurrences"
NO_INPUT: dict[str, Any] = {"shifts": "embedding", "refused": {"perturbations": ("sites", "embedding")}}


class Packing(Small):
    """Sequences of several lengths, packed."""

    lengths = (5, 4, 2, 1)
    bidirectional = False

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True, bidirectional=self.bidirectional)
        self.head = nn.Linear(HIDDEN * (2 if self.bidirectional else 1), CLASSES)

    def forward(self, x: Tensor) -> Any:
        ordered = self.lengths == tuple(sorted(self.lengths, reverse=True))
        packed = pack_padded_sequence(x, torch.tensor(self.lengths), batch_first=True, enforce_sorted=ordered)
        _, hidden = self.gru(packed)
        return self.head(torch.cat([*hidden], -1))


@model("packed, sorted", KIND)
class Packed(Packing):
    pass


@model("packed, not sorted, both directions", KIND)
class PackedUnsorted(Packing):
    lengths = (2, 5, 1, 4)
    bidirectional = True


@model("packed tokens, tagged", KIND, shifts="embedding")
class Tagging(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, FEATURES, padding_idx=0)
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, num_layers=2, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def batch(self, number: int) -> Any:
        words, _ = super().batch(number)
        words[1:, 3:] = 0
        return words, torch.where(words > 0, words % CLASSES, -100)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction.flatten(0, 1), target.flatten())

    def forward(self, words: Tensor) -> Any:
        lengths = (words > 0).sum(1)
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=STEPS)
        return self.head(output)


@model("time first", KIND)
class TimeFirst(Small):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x.transpose(0, 1))[0][-1])


@model("projections, two layers, both directions", KIND)
class Projected(Small):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, 2, batch_first=True, bidirectional=True, proj_size=2)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0].mean(1))


@model("weights of the recurrence, GRU and RNN stacked", KIND, sites="weight")
class Stacked(Small):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.rnn = nn.RNN(HIDDEN, HIDDEN, batch_first=True, nonlinearity="relu")
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.rnn(self.gru(x)[0])[0][:, -1])


@model("locked masks before, between and behind the layers", KIND, sites=["input", "hidden", "output"], drops=True)
class Locked(Recurrent):
    def __init__(self) -> None:
        super().__init__(num_layers=2, dropout=0.2)


@model("cells in a loop over time", KIND, **NO_INPUT)
class Cells(Small):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(FEATURES, HIDDEN), nn.RNNCell(HIDDEN, HIDDEN)])
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        states = [x.new_zeros(len(x), HIDDEN) for _ in self.cells]
        for step in x.unbind(1):
            states[0] = self.cells[0](step, states[0])
            states[1] = self.cells[1](states[0], states[1])
        return self.head(states[1])


@model("convolutions, then an LSTM", KIND)
class Convolved(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(FEATURES, FEATURES, 3, padding=1), nn.BatchNorm1d(FEATURES), nn.ReLU())

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.conv(x.transpose(1, 2)).transpose(1, 2))


@model("halting: as many steps as the data ask for", KIND, **NO_INPUT)
class Halting(Small):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(FEATURES, HIDDEN)
        self.halt, self.head = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, CLASSES)
        self.pondered: list[int] = []

    def forward(self, x: Tensor) -> Any:
        h, total = x.new_zeros(len(x), HIDDEN), 0.0
        for step in range(1, 8):
            h = self.cell(x[:, step % STEPS], h)
            total += self.halt(h).sigmoid().mean().item()
            if total > 2:
                break
        self.pondered.append(step)
        return self.head(h)


@model("an ODE-like loop around a cell", KIND, **NO_INPUT)
class Ode(Small):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.field = nn.LSTMCell(FEATURES, HIDDEN), nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.Tanh())
        self.head, self.evaluations = nn.Linear(HIDDEN, CLASSES), 0

    def flow(self, h: Tensor) -> Tensor:
        self.evaluations += 1
        return self.field(h)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Any:
        h = c = x.new_zeros(len(x), HIDDEN)
        for step in x.unbind(1):
            middle = h + 0.5 * self.flow(h)
            h = h + self.flow(middle)
            h, c = self.cell(step, (h, c))
        return self.head(h)


class Decoder(Tokens):
    """Sequence to sequence with attention; a coin decides whether the decoder is shown the right word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, HIDDEN)
        self.encoder = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.decoder = nn.GRUCell(2 * HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, WORDS)
        self.coin = random.Random(3)

    def batch(self, number: int) -> Any:
        words, _ = super().batch(number)
        return words, words.flip(1)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction.flatten(0, 1), target.flatten())

    def step(self, batch: Any) -> Any:
        return self.loss(self(*batch), batch[1])

    def forward(self, words: Tensor, target: Tensor) -> Any:
        memory, hidden = self.encoder(self.embedding(words))
        h, word, logits = hidden[0], torch.zeros_like(words[:, 0]), []
        for right in target.unbind(1):
            attention = (memory @ h.unsqueeze(-1)).softmax(1)
            h = self.decoder(torch.cat([self.embedding(word), (attention * memory).sum(1)], -1), h)
            logits.append(self.head(h))
            word = right if self.coin.random() < 0.5 else logits[-1].argmax(-1)
        return torch.stack(logits, 1)


@model("seq2seq with attention and teacher forcing", KIND, shifts="embedding")
class Seq2Seq(Decoder):
    pass


@model("masks on the embedding table of a decoder", KIND, sites="embedding", shifts="encoder:input")
class MaskedWords(Decoder):
    pass


@model("truncated backpropagation in one step", KIND)
class Truncated(Recurrent):
    def forward(self, x: Tensor) -> Any:
        state, outputs = None, []
        for part in x.split(2, 1):  # type: ignore[no-untyped-call]
            output, state = self.lstm(part, state)
            state = tuple(each.detach() for each in state)
            outputs.append(output)
        return self.head(torch.cat(outputs, 1).mean(1))


@model("a batch of one, a single step and unit", KIND)
class One(Small):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 1, batch_first=True)
        self.head = nn.Linear(1, CLASSES)

    def batch(self, number: int) -> Any:
        x, y = super().batch(number)
        return x[:1, :1, :1], y[:1]

    def forward(self, x: Tensor) -> Any:
        return self.head(self.gru(x)[0][:, -1])

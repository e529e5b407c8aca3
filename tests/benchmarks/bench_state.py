"""Times what a further pass costs apart from the forward: taking a snapshot of a module's state, and restoring it.

Run with ``python -m tests.benchmarks.bench_state``. The models are a BERT of base size, with and without much Python
state (a vocabulary, a queue of tensors, a momentum encoder), and a small LSTM. A step is the forward and backward pass
of plain training. The first passes of a model also compare all its parameters with a copy; that row stands apart.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from lightning_advdrop.masking import ModuleState

BATCH, STEPS = 8, 64


class Bert(nn.Module):
    """Classifies by a BERT with random weights."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert, self.head = BertModel(config), nn.Linear(config.hidden_size, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.bert(tokens).last_hidden_state[:, 0])
        return logits


class WithState(Bert):
    """The same, holding much else."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.vocabulary = {f"word {number}": number for number in range(30_000)}
        self.queue = deque([torch.randn(config.hidden_size) for _ in range(1000)], 1000)
        self.counts = {f"word {number}": [number, 0] for number in range(5000)}
        self.generator = torch.Generator()


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.lstm, self.head = nn.Embedding(1000, 64), nn.LSTM(64, 128, batch_first=True), nn.Linear(128, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lstm(self.table(tokens))[0][:, -1])
        return logits


def milliseconds(function: Callable[[], Any], repeats: int) -> float:
    """The median time of a function."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def row(name: str, model: nn.Module, repeats: int) -> str:
    """The times of one model."""
    tokens = torch.randint(1000, (BATCH, STEPS))
    forward = functools.partial(model, tokens)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        forward().sum().backward()

    def restore() -> None:
        with state.borrowed():
            pass

    def first() -> None:
        ModuleState(model, forward).check()

    step()
    compared = milliseconds(first, 3)
    snapshot = milliseconds(first, repeats)
    state = ModuleState(model, forward)
    state.check()
    restored = milliseconds(restore, repeats)
    plain = milliseconds(step, max(1, repeats // 3))
    share = 100 * (snapshot + 2 * restored) / plain
    return f"{name} | {plain:.1f} | {compared:.1f} | {snapshot:.2f} | {restored:.2f} | {share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    config = BertConfig()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, {STEPS} tokens; milliseconds")
    print("| model | plain step | snapshot, first 3 passes | snapshot | each further pass | a step with 2, share |")
    print("| --- | --- | --- | --- | --- | --- |")
    models = {"BERT base": lambda: Bert(config), "with Python state": lambda: WithState(config), "LSTM": Small}
    for name, make in models.items():
        print(f"| {row(name, make(), repeats)} |")


if __name__ == "__main__":
    main()

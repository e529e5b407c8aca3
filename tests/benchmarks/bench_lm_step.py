"""Times a training step of a language model at the full PTB shape, plain and with adversarial dropout.

Run with ``python -m tests.benchmarks.bench_lm_step``. A step is forward, backward, clipping and SGD. The plain and the
regularized steps run in turn, so that what slows the machine down for a while slows all of them down; the ratio is the
median of their ratios.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_advdrop.nn import AWDLSTM
from lightning_advdrop.regularizers import AdversarialDropout
from lightning_advdrop.tasks import token_loss

LENGTH, BATCH, WORDS, WEIGHT = 70, 20, 10_000, 0.1


class Steps:
    """The training steps of one model on one batch, with all dropout on.

    Args:
        words: the size of the vocabulary.
        length: the steps of the batch, ``T``.
        batch: its columns, ``B``.
    """

    def __init__(self, words: int, length: int, batch: int) -> None:
        torch.manual_seed(0)
        self.model = AWDLSTM(words)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=30.0, weight_decay=1.2e-6)
        self.tokens, self.targets = (torch.randint(words, (length, batch)) for _ in range(2))
        self.states = self.model(self.tokens).states
        self.states = [(h.detach(), c.detach()) for h, c in self.states]

    def plain(self) -> Tensor:
        """A step without a regularizer; its loss."""
        return self._step(token_loss(self.model(self.tokens, self.states).logits, self.targets))

    def regularized(self, share_masks: bool) -> Tensor:
        """A step with the published adversarial dropout; its loss."""
        settings: dict[str, Any] = {"divergence": "mse_logits", "start": "ones", "search": "gradient"}
        regularizer = AdversarialDropout(0.06, share_masks=share_masks, **settings)
        base, penalty = regularizer(self._predict, self.model, "rnns.2:weight", weight=WEIGHT)
        return self._step(token_loss(base, self.targets) + penalty)

    def _predict(self) -> Tensor:
        logits: Tensor = self.model(self.tokens, self.states).logits
        return logits

    def _step(self, loss: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimizer.step()
        return loss.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--words", type=int, default=WORDS)
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(2)
    steps = Steps(arguments.words, LENGTH, BATCH)
    kinds: dict[str, Callable[[], Tensor]] = {
        "plain": steps.plain,
        "share_masks=False": lambda: steps.regularized(False),
        "share_masks=True": lambda: steps.regularized(True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(arguments.repeats + 1):
        for name, step in kinds.items():
            start = time.perf_counter()
            if not torch.isfinite(step()):
                raise RuntimeError(f"The loss of the step {name} is not finite.")
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    parameters = sum(parameter.numel() for parameter in steps.model.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # from KiB
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, (T, B, V) = ({LENGTH}, {BATCH}, {WORDS})")
    print(f"{parameters:,} parameters, at most {peak:.2f} GiB of memory")
    print("| step | s | ratio to plain |\n| --- | --- | --- |")
    for name, times in seconds.items():
        ratios = [t / plain for t, plain in zip(times, seconds["plain"], strict=True)]
        print(f"| {name} | {statistics.median(times):.3f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()

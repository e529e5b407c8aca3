"""Times a whole training step of sequential MNIST, plain and with adversarial dropout, in one run.

Run with ``python -m tests.benchmarks.bench_step``; ``--device cuda`` adds a row without CUDA graphs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_advdrop.masking import find_sites
from lightning_advdrop.nn.graphs import cuda_graphs
from lightning_advdrop.regularizers import AdversarialDropout
from lightning_advdrop.tasks import SequenceClassifier

STEPS, BATCH, HIDDEN, CLASSES = 784, 100, 100, 10


def make_steps(detach_base: bool, device: str = "cpu") -> dict[str, Callable[[], None]]:
    """A plain and a regularized step, forward, backward and all, of one model on one batch."""
    torch.manual_seed(0)
    model = SequenceClassifier(1, HIDDEN, CLASSES).to(device)
    x, y = torch.rand(BATCH, STEPS, 1, device=device), torch.randint(CLASSES, (BATCH,), device=device)
    sites = find_sites(model)
    published: dict[str, Any] = {"search": "gradient", "share_masks": False, "keep_start": True}
    regularizer = AdversarialDropout(
        rate=0.03, divergence="kl", direction="adv_base", detach_base=detach_base, **published
    )

    def backward(loss: Tensor) -> None:
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]

    def plain() -> None:
        backward(F.cross_entropy(model(x), y))

    def regularized() -> None:
        base, penalty = regularizer(lambda: model(x), model, sites)
        backward(F.cross_entropy(base, y) + penalty)

    return {"plain": plain, "regularized": regularized}


def row(device: str, repeats: int) -> str:
    """Medians of both steps, taken in turn, and of their ratio."""
    steps = make_steps(detach_base=False, device=device)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(-2, repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            if repeat >= 0:  # the first two rounds warm up, and capture graphs
                seconds[name].append(time.perf_counter() - start)
    ratios = [r / p for p, r in zip(seconds["plain"], seconds["regularized"], strict=True)]
    plain, regularized = (statistics.median(seconds[name]) for name in ("plain", "regularized"))
    return f"{plain:.3f} | {regularized:.3f} | {statistics.median(ratios):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    on_gpu = arguments.device == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}, (T, B, H) = ({STEPS}, {BATCH}, {HIDDEN})")
    print("| CUDA graphs | plain s | regularized s | ratio |\n| --- | --- | --- | --- |")
    for enabled in (True, False) if on_gpu else (False,):
        with cuda_graphs(enabled):
            print(f"| {'yes' if enabled else 'no'} | {row(arguments.device, arguments.repeats)} |")


if __name__ == "__main__":
    main()

"""Times masked layers beside the stock ones and the floor: ``python -m tests.benchmarks.bench_recurrent``.

The floor is the layer's matrix products alone, written into memory that is there already: at each step the product
with ``weight_hh`` and, back again, with its transpose; over blocks of steps those of the input and of the weights'
gradients. All run in turn, so that what slows the machine down for a while slows all of them down.

With one thread, as by default, seconds are those of the process on a processor, which other processes disturb little;
with more they are those of the clock. Ratios are medians of the ratios of each repeat.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from statistics import linear_regression, median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from tests.benchmarks.bench_lstm import LAYERS, Size

SIZES = {"mnist": Size(784, 100, 100, 1), "ptb": Size(70, 20, 1150, 1150), "imdb": Size(400, 64, 1024, 256)}
SHARES_OF_STEPS = (8, 4, 2, 1)
BLOCK_ROWS = 512
COLUMNS = (
    *("layer", "T", "B", "H", "input", "stock s", "forward", "backward", "ours s", "forward", "backward", "floor s"),
    *("ours / stock", "forward", "backward", "ours / floor", "packed / padded"),
)

Run = Callable[[], tuple[float, float]]
"""Returns the seconds of forward and backward."""


class Bench(NamedTuple):
    """What is timed, of one layer at one size."""

    stock: Run
    ours: Run
    floor: Run
    packed: Run
    share_of_rows: float
    """Rows of the packed batch, of those of the padded one."""


def now() -> float:
    """Seconds: of this process with one thread, else of the clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def both_passes(layer: Any, forward: Callable[[], Tensor]) -> tuple[float, float]:
    """The seconds of one forward pass, and of the backward pass of the last step's squared output."""
    for parameter in layer.parameters():
        parameter.grad = None
    start = now()
    loss = forward()[-1].square().sum()
    middle = now()
    torch.autograd.backward(loss)
    return middle - start, now() - middle


def packed_batch(x: Tensor) -> PackedSequence:
    """The sequences of ``(T, B, in)`` cut to lengths from half to all of the steps."""
    lengths = torch.linspace(len(x), len(x) / 2, x.shape[1]).long()
    return pack_padded_sequence(x, lengths)


def floor(size: Size, gates: int) -> Run:
    """The products of one layer, of ``gates * H`` rows of weights."""
    rows, width = size.steps * size.batch, gates * size.units
    x, hidden, grads = torch.randn(rows, size.features), torch.randn(rows, size.units), torch.randn(rows, width)
    projected, carried = torch.zeros(rows, width), torch.empty(size.batch, size.units)
    weight_ih, weight_hh = torch.randn(size.features, width), torch.randn(size.units, width)
    grad_ih, grad_hh, back = torch.zeros_like(weight_ih), torch.zeros_like(weight_hh), weight_hh.t().contiguous()
    blocks = range(0, rows, max(BLOCK_ROWS // size.batch, 1) * size.batch)

    def run() -> tuple[float, float]:
        start = now()
        for first in blocks:
            part = slice(first, first + blocks.step)
            torch.mm(x[part], weight_ih, out=projected[part])
            for out, h in zip(
                torch.split(projected[part], size.batch), torch.split(hidden[part], size.batch), strict=True
            ):
                out.addmm_(h, weight_hh)
        middle = now()
        for first in blocks:
            part = slice(first, first + blocks.step)
            for grad in torch.split(grads[part], size.batch):
                torch.mm(grad, back, out=carried)
            grad_hh.addmm_(hidden[part].t(), grads[part])
            grad_ih.addmm_(x[part].t(), grads[part])
        return middle - start, now() - middle

    return run


def prepare(kind: str, size: Size) -> Bench:
    """What is timed: the same weights in the stock layer and ours, and a mask that drops a tenth of the units."""
    torch.manual_seed(0)
    stock_type, our_type, _ = LAYERS[kind]
    stock, ours = stock_type(size.features, size.units), our_type(size.features, size.units)
    ours.load_state_dict(stock.state_dict())
    x = torch.randn(size.steps, size.batch, size.features)
    packed, mask = packed_batch(x), (torch.rand(size.batch, size.units) >= 0.1).float()
    return Bench(
        stock=lambda: both_passes(stock, lambda: stock(x)[0]),
        ours=lambda: both_passes(ours, lambda: ours(x, recurrent_mask=mask)[0]),
        floor=floor(size, len(stock.weight_hh_l0) // size.units),
        packed=lambda: both_passes(ours, lambda: ours(packed, recurrent_mask=mask)[0].data),
        share_of_rows=len(packed.data) / (size.steps * size.batch),
    )


def measure(bench: Bench, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of forward and backward of each, for each repeat; one more repeat warms up and is left out."""
    runs = {"stock": bench.stock, "ours": bench.ours, "floor": bench.floor, "packed": bench.packed}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            times[name].append(run())
    return {name: found[1:] for name, found in times.items()}


def table_row(kind: str, size: Size, repeats: int) -> str:
    """One row of the Markdown table."""
    bench = prepare(kind, size)
    times = measure(bench, repeats)
    whole = {name: [sum(pair) for pair in found] for name, found in times.items()}

    def ratio(first: Sequence[float], second: Sequence[float]) -> float:
        return median(a / b for a, b in zip(first, second, strict=True))

    seconds = []
    for name in ("stock", "ours"):
        seconds += [median(whole[name]), *(median(part) for part in zip(*times[name], strict=True))]
    passes = (zip(*times[name], strict=True) for name in ("ours", "stock"))
    ratios = [
        ratio(whole["ours"], whole["stock"]),
        *(ratio(ours, stock) for ours, stock in zip(*passes, strict=True)),
        ratio(whole["ours"], whole["floor"]),
        ratio(whole["packed"], whole["ours"]) / bench.share_of_rows,
    ]
    cells = [kind, *map(str, size), *(f"{s:.3f}" for s in (*seconds, median(whole["floor"])))]
    return f"| {' | '.join([*cells, *(f'{r:.2f}' for r in ratios)])} |"


def growth_with_steps(kind: str, size: Size, repeats: int) -> float:
    """The exponent of the number of steps in our seconds, fitted to an eighth, a quarter, half and all of the steps."""
    sizes = [size._replace(steps=size.steps // share) for share in SHARES_OF_STEPS]
    runs = [prepare(kind, each).ours for each in sizes]
    times = [[sum(run()) for run in runs] for _ in range(repeats + 1)][1:]
    seconds = [math.log(median(column)) for column in zip(*times, strict=True)]
    return linear_regression([math.log(each.steps) for each in sizes], seconds).slope


def main(args: Sequence[str] | None = None) -> None:
    """Prints the table, and below it the growth with the number of steps.

    Args:
        args: the command line's arguments; None takes those of the process.
    """
    torch.set_flush_denormal(True)  # before threads start: gradients over hundreds of steps become denormal numbers
    parser = argparse.ArgumentParser(description="Masked layers beside the stock ones and the floor, as Markdown.")
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS), help="the kinds of layer")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["mnist", "ptb"], help="the sizes")
    parser.add_argument("--repeats", type=int, default=5, help="measured runs of each")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args(args)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}.")
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {options.repeats} repeats\n")
    print("Packed sequences are from half to all of the steps long; their time is that of each row.\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for name in options.sizes:
        for kind in options.layers:
            print(table_row(kind, SIZES[name], options.repeats), flush=True)
    print()
    for kind in options.layers:
        exponent = growth_with_steps(kind, SIZES[options.sizes[0]], options.repeats)
        print(f"{kind}: time grows with T to the power {exponent:.2f}", flush=True)


if __name__ == "__main__":
    main()

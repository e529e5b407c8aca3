"""Times forward and backward of a recurrently masked layer: ``python -m tests.benchmarks.bench_lstm``.

Three implementations run in turn, so that what slows the machine down for a while slows all of them down: the stock
layer without a mask, an efficient loop over the steps, and the masked layer of `lightning_advdrop.nn`: an LSTM, or
a GRU or a tanh RNN with ``--layer``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_advdrop.nn import MaskedGRU, MaskedLSTM, MaskedRNN


class Size(NamedTuple):
    """Steps, batch size, units and input features."""

    steps: int
    batch: int
    units: int
    features: int


SIZES = (Size(784, 100, 100, 1), Size(400, 64, 1024, 256), Size(70, 20, 1150, 1150))
COLUMNS = ("T", "B", "H", "input", "stock s", "naive s", "ours s", "naive / ours", "ours / stock")


def naive_lstm(lstm: nn.LSTM, x: Tensor, mask: Tensor) -> Tensor:
    """A loop over the steps of ``(T, B, in)`` with one product for all projections of the input."""
    weight_ih, weight_hh, bias_ih, bias_hh = lstm.all_weights[0]
    h = c = x.new_zeros(x.shape[1], lstm.hidden_size)
    outputs = []
    for projected in nn.functional.linear(x, weight_ih, bias_ih + bias_hh).unbind(0):
        i, f, g, o = torch.addmm(projected, h * mask, weight_hh.t()).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs)


def naive_gru(gru: nn.GRU, x: Tensor, mask: Tensor) -> Tensor:
    """The same loop for a GRU."""
    weight_ih, weight_hh, bias_ih, bias_hh = gru.all_weights[0]
    h = x.new_zeros(x.shape[1], gru.hidden_size)
    outputs = []
    for projected in nn.functional.linear(x, weight_ih, bias_ih).unbind(0):
        (xr, xz, xn), (hr, hz, hn) = projected.chunk(3, 1), torch.addmm(bias_hh, h * mask, weight_hh.t()).chunk(3, 1)
        h = torch.lerp((xn + (xr + hr).sigmoid() * hn).tanh(), h, (xz + hz).sigmoid())
        outputs.append(h)
    return torch.stack(outputs)


def naive_rnn(rnn: nn.RNN, x: Tensor, mask: Tensor) -> Tensor:
    """The same loop for a tanh RNN."""
    weight_ih, weight_hh, bias_ih, bias_hh = rnn.all_weights[0]
    h = x.new_zeros(x.shape[1], rnn.hidden_size)
    outputs = []
    for projected in nn.functional.linear(x, weight_ih, bias_ih + bias_hh).unbind(0):
        h = torch.addmm(projected, h * mask, weight_hh.t()).tanh()
        outputs.append(h)
    return torch.stack(outputs)


# The stock layer, ours and the loop.
LAYERS: dict[str, tuple[Any, Any, Callable[[Any, Tensor, Tensor], Tensor]]] = {
    "lstm": (nn.LSTM, MaskedLSTM, naive_lstm),
    "gru": (nn.GRU, MaskedGRU, naive_gru),
    "rnn": (nn.RNN, MaskedRNN, naive_rnn),
}


def seconds(forward: Callable[[], Tensor]) -> float:
    """The time of one forward and backward pass of the last step's squared output."""
    start = time.perf_counter()
    torch.autograd.backward(forward()[-1].square().sum())
    return time.perf_counter() - start


def measure(size: Size, repeats: int, layer: str = "lstm") -> list[tuple[float, float, float]]:
    """Seconds of the stock, the naive and our layer, for each repeat; one more repeat warms up and is left out."""
    torch.manual_seed(0)
    stock_type, our_type, naive = LAYERS[layer]
    stock, ours = stock_type(size.features, size.units), our_type(size.features, size.units)
    ours.load_state_dict(stock.state_dict())
    x = torch.randn(size.steps, size.batch, size.features)
    mask = (torch.rand(size.batch, size.units) >= 0.1).float()
    runs: tuple[Callable[[], Tensor], ...] = (
        lambda: stock(x)[0],
        lambda: naive(stock, x, mask),
        lambda: ours(x, recurrent_mask=mask)[0],
    )
    times = []
    for _ in range(repeats + 1):
        for parameter in (*stock.parameters(), *ours.parameters()):
            parameter.grad = None
        first, second, third = (seconds(forward) for forward in runs)
        times.append((first, second, third))
    return times[1:]


def table_row(size: Size, times: Sequence[tuple[float, float, float]]) -> str:
    """One row of the Markdown table; ratios are medians of the ratios of each repeat."""
    middle = [f"{median(column):.3f}" for column in zip(*times, strict=True)]
    speed_up = median(naive / ours for _, naive, ours in times)
    to_stock = median(ours / stock for stock, _, ours in times)
    return f"| {' | '.join([*map(str, size), *middle, f'{speed_up:.2f}', f'{to_stock:.2f}'])} |"


def main(args: Sequence[str] | None = None) -> None:
    """Prints the table.

    Args:
        args: the command line's arguments; None takes those of the process.
    """
    torch.set_flush_denormal(True)  # before threads start: gradients over hundreds of steps become denormal numbers
    parser = argparse.ArgumentParser(description="Seconds of forward and backward of masked layers, as Markdown.")
    parser.add_argument("--repeats", type=int, default=5, help="measured runs of each implementation")
    parser.add_argument("--threads", type=int, help="threads of torch; by default as many as torch chooses")
    parser.add_argument("--layer", choices=LAYERS, default="lstm", help="the kind of layer")
    options = parser.parse_args(args)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}.")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {options.repeats} repeats\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for size in SIZES:
        print(table_row(size, measure(size, options.repeats, options.layer)), flush=True)


if __name__ == "__main__":
    main()

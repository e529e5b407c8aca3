"""Measure what regularized training steps cost, and print it beside the targets.

Every step goes through a Trainer. Within one process the methods take turns, so that what slows the machine down slows
all of them; memory is measured in a process for each cell, by the growth to the peak of one step::

    python -m tests.benchmarks.price --save now.json --docs
    python -m tests.benchmarks.price --only smnist --compare earlier.json
    python -m tests.benchmarks.price --load now.json --only imdb --save now.json
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from tests.benchmarks.bench_lstm import Size
from tests.benchmarks.bench_lstm import measure as measure_layer
from tests.benchmarks.page import DOCS, write_between
from tests.benchmarks.price import formula, growth
from tests.benchmarks.price.cell import Cell, memory
from tests.benchmarks.price.meters import Clock, ClockName, GPUPeakMemory, Meter
from tests.benchmarks.price.methods import available
from tests.benchmarks.price.results import Results, ShapeResult, environment
from tests.benchmarks.price.shapes import SHAPES
from tests.benchmarks.price.steps import Measured, StepError, measure
from tests.benchmarks.price.tables import comparison, report, sizes_of

PARTS = (*SHAPES, "layers", "growth", "formula")
PAGE = DOCS / "performance.md"
LAYERS = {
    "LSTM, 784 x 100 x 100": ("lstm", Size(784, 100, 100, 1), Size(8, 4, 4, 1)),
    "LSTM, 70 x 20 x 1150": ("lstm", Size(70, 20, 1150, 1150), Size(8, 4, 4, 4)),
    "GRU, 784 x 100 x 100": ("gru", Size(784, 100, 100, 1), Size(8, 4, 4, 1)),
    "RNN, 784 x 100 x 100": ("rnn", Size(784, 100, 100, 1), Size(8, 4, 4, 1)),
}


def shape_result(name: str, options: argparse.Namespace) -> ShapeResult:
    """Time and memory of every method at a shape; one that fails is left out with its message."""
    shape, sizes = SHAPES[name], sizes_of(name, small=options.small)
    methods, left_out = available(shape, shape.methods)
    result = ShapeResult(list(sizes), left_out=left_out)
    found: Measured = {}
    while methods and not found:
        meters: dict[str, Meter] = {"seconds": Clock(options.clock, options.device)}
        if options.device != "cpu":
            meters["bytes"] = GPUPeakMemory()
        try:
            repeats = options.repeats or shape.repeats
            more: dict[str, Any] = {"warm_up": shape.warm_up, "device": options.device}
            found = measure(shape, methods, meters, sizes=sizes, repeats=repeats, **more)
        except StepError as error:
            if error.method not in methods:
                raise
            methods.remove(error.method)
            left_out[error.method] = str(error)
    result.seconds = found["seconds"]
    if options.device != "cpu":
        result.bytes = {method: max(values) for method, values in found["bytes"].items()}
    elif options.memory:
        grown = memory(
            [Cell(name, method, sizes, repeats=max(1, shape.repeats // 3)) for method in methods], options.jobs
        )
        for method, value in zip(methods, grown, strict=True):
            if isinstance(value, str):
                left_out[method] = f"memory: {value}"
            else:
                result.bytes[method] = value
    return result


def layer_results(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds of the stock and the masked layers."""
    found = {}
    for name, (kind, size, small) in LAYERS.items():
        times = measure_layer(small if options.small else size, options.repeats or 7, kind)
        found[name] = {"stock": [stock for stock, _, _ in times], "masked": [ours for _, _, ours in times]}
    return found


def measure_part(name: str, results: Results, options: argparse.Namespace) -> None:
    """Measure one part, and put it into the results."""
    if name in SHAPES:
        results.shapes[name] = shape_result(name, options)
    elif name == "layers":
        results.layers = layer_results(options)
    elif name == "growth":
        more: dict[str, Any] = {"jobs": options.jobs, "with_memory": options.memory}
        results.growth = growth.measured(options.clock, small=options.small, repeats=options.repeats or 5, **more)
    else:
        results.formula = formula.measured(options.clock, small=options.small, repeats=options.repeats or 5)


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.price",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be given several times")
    parser.add_argument("--load", type=Path, help="begin with these results; measures only what --only names")
    parser.add_argument("--save", type=Path, help="write the results to this file, after each part")
    parser.add_argument("--compare", type=Path, help="print ratios to the results in this file")
    parser.add_argument("--docs", action="store_true", help=f"write the tables into docs/{PAGE.name}")
    parser.add_argument("--repeats", type=int, help="rounds that are timed; each part has its own number by default")
    parser.add_argument("--threads", type=int, help="threads of torch; by default as many as torch chooses")
    parser.add_argument("--clock", choices=get_args(ClockName), default="wall", help="process: on a busy machine")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the models' steps run")
    parser.add_argument("--jobs", type=int, default=2, help="processes that measure memory at the same time")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave memory out")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the program")
    options = parser.parse_args(args)
    for name in ("repeats", "threads", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}.")
    return options


def main(args: Sequence[str] | None = None, say: Callable[[str], object] = print) -> Results:
    """Measure, print and save.

    Args:
        args: the command line's arguments; None takes those of the process.
        say: prints a text.
    """
    options = parse(args)
    torch.set_flush_denormal(True)  # before threads start: gradients over hundreds of steps become denormal numbers
    if options.threads:
        torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    results = Results(environment(options.clock, options.device))
    if options.load:
        results = Results.of(json.loads(options.load.read_text()))
    for name in options.only or ([] if options.load else PARTS):
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        measure_part(name, results, options)
        if options.save:
            options.save.write_text(json.dumps(results.as_dict(), indent=1))
    say(report(results))
    if options.compare:
        say(comparison(Results.of(json.loads(options.compare.read_text())), results))
    if options.docs:
        write_between(PAGE, "price", report(results))
    return results


if __name__ == "__main__":
    main()

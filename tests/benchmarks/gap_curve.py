"""The gap between training under dropout and inference, with and without adversarial dropout; and the first picture.

The network and the 200 digits are those of `tests.benchmarks.budget_curve`. Every fifth epoch `InferenceGapMonitor`
drops 3 of 100 units on the 200 validation images::

    python -m tests.benchmarks.gap_curve

trains what ``docs/data/gap_curve.csv`` lacks, and draws ``docs/images/inference_gap.png``, and of both curves
``docs/images/overview.png``.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import lightning as L
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor
from lightning_advdrop.drawing import as_png, panel_grid
from lightning_advdrop.files import replacing
from tests.benchmarks import budget_curve
from tests.benchmarks.budget_curve import EPOCHS, FewDigits
from tests.benchmarks.page import DOCS
from tests.benchmarks.rows_quality import UNITS, AdamTask
from tests.benchmarks.saved_runs import read as read_runs

SEEDS, INTERVAL, RATE = (10, 11, 12), 5, 0.03
FILE, IMAGES = DOCS / "data" / "gap_curve.csv", DOCS / "images"
METHODS = {"plain": ("plain training", "#000000"), "adversarial": ("adversarial dropout", "#D55E00")}
LINES = {"adversarial": ("-", "masks of the search"), "random": ((0, (3, 1.5)), "random masks")}


class Point(NamedTuple):
    """What was measured after an epoch: divergences under random masks, and under the masks of the search."""

    method: str
    seed: int
    epoch: int
    random: float
    adversarial: float


class _Points(L.Callback):
    def __init__(self, method: str, seed: int) -> None:
        self.run = method, seed
        self.found: list[Point] = []

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        values = [round(float(trainer.callback_metrics[f"gap/{name}"]), 5) for name in ("random", "adversarial")]
        self.found.append(Point(*self.run, trainer.current_epoch + 1, *values))


def run(method: str, seed: int, epochs: int = EPOCHS) -> list[Point]:
    """Train with one thread, and measure the gap at each interval.

    Args:
        method: ``plain`` or ``adversarial``.
        seed: of the weights, the order and the masks.
        epochs: the number of epochs.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    L.seed_everything(seed, verbose=False)
    data, points = FewDigits(by="row", seed=seed), _Points(method, seed)
    monitor = InferenceGapMonitor(rate=RATE, divergence="kl")
    attached = [AdversarialDropoutCallback(rate=RATE, divergence="kl")] if method == "adversarial" else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator="cpu",
            callbacks=[*attached, monitor, points],
            max_epochs=epochs,
            check_val_every_n_epoch=INTERVAL,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(AdamTask(data.input_size, UNITS, clip_value=None, rampdown_epochs=0), data)
    return points.found


def read(path: Path) -> list[Point]:
    """The points of a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    return [
        Point(row["method"], int(row["seed"]), int(row["epoch"]), float(row["random"]), float(row["adversarial"]))
        for row in rows
    ]


def train_missing(path: Path, epochs: int = EPOCHS) -> list[Point]:
    """Make the runs that the file lacks, add each to it as it ends, and return all points."""
    points = read(path)
    for seed in SEEDS:
        for method in METHODS:
            if (method, seed) not in {point[:2] for point in points}:
                points += run(method, seed, epochs)
                path.parent.mkdir(exist_ok=True)
                with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(Point._fields)
                    writer.writerows(points)
    return points


def draw(axes: Axes, points: Sequence[Point]) -> None:
    """Draw the means over the seeds, with a standard deviation as a band."""
    for method, (title, color) in METHODS.items():
        for line, (style, masks) in LINES.items():
            by_epoch: dict[int, list[float]] = defaultdict(list)
            for point in points:
                if point.method == method:
                    by_epoch[point.epoch].append(getattr(point, line))
            middles = [mean(values) for values in by_epoch.values()]
            axes.plot([*by_epoch], middles, color=color, linestyle=style, label=f"{title}, {masks}")
            bands = [stdev(values) if len(values) > 1 else 0.0 for values in by_epoch.values()]
            low, high = ([m + sign * b for m, b in zip(middles, bands, strict=True)] for sign in (-1, 1))
            axes.fill_between([*by_epoch], low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Divergence from the prediction without a mask")
    axes.legend()


def gap_figure(points: Sequence[Point]) -> Figure:
    """Draw the gap alone."""
    figure, (axes,) = panel_grid(1)
    draw(axes, points)
    return figure


def overview(points: Sequence[Point]) -> Figure:
    """Draw the gap, and beside it the error by budget."""
    figure, (left, right) = panel_grid(2)
    draw(left, points)
    left.set_title("How far 3 dropped units of 100 move predictions")
    budget_curve.draw(right, read_runs(budget_curve.FILE))
    right.set_title("Further drops on a random mask, 200 training images")
    return figure


def few_colors(png: bytes) -> bytes:
    """Return a picture with a palette, which takes half of the space."""
    smaller = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def main(args: Sequence[str] | None = None) -> int:
    """Train what is missing, and draw."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gap_curve", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=FILE, help="the CSV file of all runs")
    parser.add_argument("--only-train", action="store_true", help="draw nothing")
    options = parser.parse_args(args)
    points = train_missing(options.file)
    if not options.only_train:
        IMAGES.mkdir(exist_ok=True)
        for name, make in (("inference_gap", gap_figure), ("overview", overview)):
            (IMAGES / f"{name}.png").write_bytes(few_colors(as_png(lambda make=make: make(points))))  # type: ignore[misc]
    return 0


if __name__ == "__main__":
    sys.exit(main())

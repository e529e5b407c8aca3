"""Test error against budget: further drops on a random mask, at random or the worst ones.

An LSTM of 100 units reads the rows of 200 of scikit-learn's digits; Adam, 200 epochs, batches of 50. The base pass has
a random mask that drops 10 %. The second pass drops some more of the kept units, at random or those that the label
search finds; both passes are trained on the label, and on their divergence. The error is that of 997 test images after
the last epoch: test data choose nothing. ::

    python -m tests.benchmarks.budget_curve --docs
    python -m tests.benchmarks.budget_curve --repeat adversarial_6 10

The first makes the runs that the file lacks, prints the table, and writes it and the picture into the documentation;
the second repeats a row, and says whether the error is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from statistics import mean, stdev

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t
from torch import Tensor

from lightning_advdrop import DigitsDataModule, RDropCallback, VariationalDropoutCallback
from lightning_advdrop.drawing import as_png, panel_grid
from tests.benchmarks.page import DOCS, write_between
from tests.benchmarks.price.methods import RANDOM_RATE
from tests.benchmarks.rows_quality import UNITS, Callback, control, error_after, leading
from tests.benchmarks.saved_runs import Row, missing, parser, read, repeats, train_missing

IMAGES, TEST_IMAGES, EPOCHS, SEEDS = 200, 997, 200, tuple(range(10, 15))
BUDGETS = (1, 3, 6, 10, 20)
FILE, PICTURE, MARKER = DOCS / "data" / "budget_curve.csv", DOCS / "images" / "budget_curve.png", "budget curve"
CURVES = {"random": "random drops (control)", "adversarial": "worst drops, by the label search"}
REFERENCES = {
    "plain": "no mask",
    "base": "the random mask alone: variational dropout, 10 %",
    "r_drop": "two random masks: R-Drop, 30 %",
}
METHODS: dict[str, Callback] = {
    "plain": lambda: None,
    "base": lambda: VariationalDropoutCallback(rate=RANDOM_RATE),
    "r_drop": lambda: RDropCallback(rate=0.3),
    **{f"random_{budget}": control(budget / UNITS) for budget in BUDGETS},
    **{f"adversarial_{budget}": leading(budget / UNITS) for budget in BUDGETS},
}


class FewDigits(DigitsDataModule):
    """The digits with few images for training and the last ones for test."""

    def load_training(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Load the first training images and labels, then those for validation."""
        images, labels, *others = super().load_training()
        return images[:IMAGES], labels[:IMAGES], others[0], others[1]

    def load_test(self) -> tuple[Tensor, Tensor]:
        """Load the last images of all, and their labels."""
        parts = [super().load_training(), super().load_test()]
        images = torch.cat([parts[0][0], parts[0][2], parts[1][0]])
        labels = torch.cat([parts[0][1], parts[0][3], parts[1][1]])
        return images[-TEST_IMAGES:], labels[-TEST_IMAGES:]


def run(method: str, seed: int, small: bool = False) -> Row:
    """Train and test, with one thread.

    Args:
        method: one of `METHODS`.
        seed: of the weights, the order and the masks.
        small: whether to train for two epochs only.
    """
    return Row(
        method, seed, *error_after(METHODS[method], FewDigits(by="row", seed=seed), seed, 2 if small else EPOCHS)
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of the width of its 95 % interval by Student's distribution; NaN of fewer than two values."""
    if len(values) < 2:
        return mean(values), float("nan")
    return mean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5


def errors(rows: Sequence[Row], method: str) -> dict[int, float]:
    """The errors of a method by seed."""
    return {row.seed: row.error for row in rows if row.method == method}


def differences(rows: Sequence[Row], method: str, other: str) -> list[float]:
    """The error of a method less that of another one, for each seed that both have."""
    first, second = errors(rows, method), errors(rows, other)
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Means and deviations by budget, with paired differences, then those of the references."""
    yield "| further drops of 100 units | at random | the worst ones | difference, 95 % interval |"
    yield "| --- | --- | --- | --- |"
    for budget in BUDGETS:
        pair = differences(rows, f"adversarial_{budget}", f"random_{budget}")
        if pair:
            middle, half = interval(pair)
            cells = [_cell(errors(rows, f"{curve}_{budget}")) for curve in CURVES]
            yield f"| {budget} | {cells[0]} | {cells[1]} | {middle:+.2f} ± {half:.2f} |"
    yield ""
    yield "| reference | test error, % |"
    yield "| --- | --- |"
    for method, title in REFERENCES.items():
        yield f"| {title} | {_cell(errors(rows, method))} |"
    yield ""
    yield f"Means over {len({row.seed for row in rows})} seeds, with the standard deviation in brackets."


def _cell(found: dict[int, float]) -> str:
    values = [*found.values()]
    return f"{mean(values):.2f} ({stdev(values):.2f})" if len(values) > 1 else ""


def figure(rows: Sequence[Row]) -> Figure:
    """Draw the error by budget alone."""
    drawing, (axes,) = panel_grid(1)
    draw(axes, rows)
    return drawing


def draw(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the error by budget: means with their 95 % intervals, and the references as horizontal lines."""
    for (curve, title), color, shift in zip(CURVES.items(), ("#0072B2", "#D55E00"), (-0.12, 0.12), strict=True):
        points = [interval([*errors(rows, f"{curve}_{budget}").values()]) for budget in BUDGETS]
        axes.errorbar(
            [budget + shift for budget in BUDGETS],
            [middle for middle, _ in points],
            [half for _, half in points],
            color=color,
            label=title,
            marker="o",
            markersize=4,
            capsize=3,
        )
    for method, style, place in (("plain", "-", 0), ("base", (0, (5, 2)), 1), ("r_drop", (0, (1, 1)), 2)):
        middle = mean(errors(rows, method).values())
        axes.axhline(middle, color="#666666", linestyle=style, linewidth=1, label=[*REFERENCES.values()][place])
    axes.set_xlabel("Further drops in the second pass, of 100 units")
    axes.set_ylabel("Test error, %")
    axes.set_ylim(bottom=0)
    axes.set_xticks(BUDGETS)
    axes.legend(loc="lower left")


def write_docs(rows: Sequence[Row]) -> None:
    """Write the table and the picture into the documentation."""
    write_between(DOCS / "choosing.md", MARKER, "\n".join(table(rows)))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(as_png(lambda: figure(rows)))


def main(args: Sequence[str] | None = None) -> int:
    """Make the runs that are missing, and print the table; return 1 if a repeated run differs."""
    options = parser("budget_curve", __doc__, METHODS, SEEDS, FILE).parse_args(args)
    if options.repeat:
        method, seed = options.repeat
        return int(not repeats(read(options.file), run, method, int(seed), small=options.small))
    options.file.parent.mkdir(exist_ok=True)
    chosen = missing(read(options.file), options.methods, options.seeds)
    train_missing(options.file, run, chosen, order=[*METHODS], jobs=options.jobs, small=options.small)
    rows = read(options.file)
    print("\n".join(table(rows)))
    if options.docs:
        write_docs(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

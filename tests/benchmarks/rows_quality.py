"""The test error of an LSTM that reads few digits row by row, with each search and its relatives, over several seeds.

An LSTM of 100 units reads the rows of the first 1,000 training images of MNIST; Adam, 100 epochs, batches of 100; the
error is that of the 10,000 test images after the last epoch. Test data choose nothing::

    python -m tests.benchmarks.rows_quality rows.csv --jobs 2 --docs
    python -m tests.benchmarks.rows_quality rows.csv --repeat label 3

The first goes on where an earlier one stopped; the second repeats a row, and says whether the error is the same.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from statistics import mean, stdev
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_advdrop import (
    AdversarialDropoutCallback,
    DigitsDataModule,
    MNISTDataModule,
    RDropCallback,
    RegularizerCallback,
    SequentialMNISTTask,
)
from lightning_advdrop.datamodules.sequences import SequenceImageDataModule
from lightning_advdrop.regularizers import AdversarialDropout, Passes
from tests.benchmarks.page import DOCS, write_between
from tests.benchmarks.price.methods import LEADING
from tests.benchmarks.saved_runs import Row, in_order, missing, parser, read, repeats, train_missing

IMAGES, UNITS, EPOCHS, SEEDS, BUDGET = 1000, 100, 100, (0, 1, 2, 3, 4), 0.03
MARKER = "rows quality"
Callback = Callable[[], L.Callback | None]


class RandomDrops(AdversarialDropout):
    """The control: as many further drops as the budget allows, at random instead of the worst ones."""

    def find_masks(self, passes: Passes, reference: Any) -> Any:
        """Drop units of each row that the reference keeps."""
        found = {}
        for site, mask in reference.items():
            count = self._budgets([passes.observed[site]])[passes.observed[site].site]
            found[site] = _further(mask.detach(), count, passes.generator)
        return found


def _further(mask: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    scores = torch.rand(mask.shape, generator=generator).to(mask) - (mask == 0).to(mask)
    return mask.scatter(-1, scores.topk(count, dim=-1).indices, 0.0)


def _adversarial(**arguments: Any) -> Callback:
    return lambda: AdversarialDropoutCallback(**{"rate": BUDGET, "divergence": "kl", **arguments})


def leading(rate: float) -> Callback:
    """The worst further drops on a random mask; both passes are trained on the label."""
    return _adversarial(**LEADING, rate=rate)


def control(rate: float) -> Callback:
    """As many further drops at random."""
    return lambda: RegularizerCallback(RandomDrops(rate=rate, **LEADING))


_PUBLISHED = {"search": "gradient", "keep_start": True, "direction": "adv_base", "detach_base": False}
METHODS: dict[str, tuple[str, Callback]] = {
    "plain": ("plain", lambda: None),
    "gradient": ("gradient search from one random drop, 3 %", _adversarial(search="gradient")),
    "published": ("published: drop kept, KL(adv, base), base not detached, 6 %", _adversarial(rate=0.06, **_PUBLISHED)),
    "top": ("top search, 3 %", _adversarial(search="top")),
    "label": ("label search, 3 %", _adversarial(search="label")),
    "fisher": ("Fisher search, 3 %", _adversarial(search="fisher")),
    "label_ce": (
        "label search, 3 %, cross-entropy of the adversarial pass",
        _adversarial(search="label", divergence="ce"),
    ),
    "r_drop_10": ("R-Drop, 10 %", lambda: RDropCallback(rate=0.1)),
    "r_drop_20": ("R-Drop, 20 %", lambda: RDropCallback(rate=0.2)),
    "leading_3": ("random 10 % mask and the worst 3 % of drops, both losses", leading(0.03)),
    "leading_6": ("the same, 6 %", leading(0.06)),
    "leading_10": ("the same, 10 %", leading(0.1)),
    "control_3": ("control: random 10 % mask and 3 % of random drops, both losses", control(0.03)),
    "control_6": ("the same, 6 %", control(0.06)),
}


class FirstImages(MNISTDataModule):
    """MNIST, of whose training images only the first ones are there."""

    def load_training(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Load the first training images and labels, then those for validation."""
        images, labels, *others = super().load_training()
        return images[:IMAGES], labels[:IMAGES], others[0], others[1]


class AdamTask(SequentialMNISTTask):
    """The task with Adam, and nothing clipped."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def run(method: str, seed: int, small: bool = False) -> Row:
    """Train and test, with one thread.

    Args:
        method: one of `METHODS`.
        seed: of the weights, the order and the masks.
        small: whether to read scikit-learn's digits, for two epochs.
    """
    data = DigitsDataModule(by="row", seed=seed) if small else FirstImages(by="row", seed=seed)
    return Row(method, seed, *error_after(METHODS[method][1], data, seed, epochs=2 if small else EPOCHS))


def error_after(method: Callback, data: SequenceImageDataModule, seed: int, epochs: int) -> tuple[float, float]:
    """Train on all training images with one thread.

    Args:
        method: makes the callback.
        data: images by rows.
        seed: of the weights and the masks.
        epochs: the number of epochs.

    Returns:
        The error of the test images after the last epoch in percent, and the seconds of the processor.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    start, callback = time.process_time(), method()
    L.seed_everything(seed, verbose=False)
    task = AdamTask(data.input_size, UNITS, clip_value=None, rampdown_epochs=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator="cpu",
            callbacks=[] if callback is None else [callback],
            max_epochs=epochs,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, data)
        (metrics,) = trainer.test(task, data, verbose=False)
    return round(100 * (1 - metrics["test/accuracy"]), 4), round(time.process_time() - start, 1)


def unavailable(methods: Sequence[str]) -> dict[str, str]:
    """Why this package can't make some of the methods."""
    reasons = {}
    for method in methods:
        try:
            METHODS[method][1]()
        except TypeError as error:
            reasons[method] = str(error)
    return reasons


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The mean, the deviation and the single errors of each method."""
    yield "| method | test error, % | deviation | seeds |"
    yield "| --- | --- | --- | --- |"
    for method, (title, _) in METHODS.items():
        errors = [row.error for row in in_order(rows, METHODS) if row.method == method]
        if errors:
            deviation = f"{stdev(errors):.2f}" if len(errors) > 1 else ""
            yield f"| {title} | {mean(errors):.2f} | {deviation} | {' '.join(f'{each:.2f}' for each in errors)} |"


def main(args: Sequence[str] | None = None) -> int:
    """Train what is missing, and print the table; return 1 if a repeated run differs."""
    options = parser("rows_quality", __doc__, METHODS, SEEDS).parse_args(args)
    if options.repeat:
        method, seed = options.repeat
        return int(not repeats(read(options.file), run, method, int(seed), small=options.small))
    left_out = unavailable(options.methods)
    for method, reason in left_out.items():
        print(f"{method} is left out: {reason}", file=sys.stderr)
    methods = [method for method in options.methods if method not in left_out]
    chosen = missing(read(options.file), methods, options.seeds)
    train_missing(options.file, run, chosen, order=[*METHODS], jobs=options.jobs, small=options.small)
    text = "\n".join(table(read(options.file)))
    print(text)
    if options.docs:
        write_between(DOCS / "performance.md", MARKER, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

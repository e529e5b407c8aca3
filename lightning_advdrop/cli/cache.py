"""The command ``advdrop cache``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from tqdm import tqdm

from lightning_advdrop.cli.experiments import run_experiment
from lightning_advdrop.functional import check_neural_cache
from lightning_advdrop.tasks import NeuralCacheResult, evaluate_neural_cache, load_language_model

_THETAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
_LAMBDAS = (0.05, 0.1, 0.15, 0.2, 0.3)
_WINDOW = 2000


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of ``advdrop cache`` to a parser."""
    parser.add_argument("--ckpt_path", required=True, metavar="FILE", help="checkpoint of a language model")
    parser.add_argument(
        "--window", type=int, default=_WINDOW, metavar="N", help="words in the cache (default: %(default)s)"
    )
    parser.add_argument(
        "--theta",
        type=float,
        nargs="+",
        default=list(_THETAS),
        help=f"values of the flatness to choose from (default: {' '.join(map(str, _THETAS))})",
    )
    parser.add_argument(
        "--lambda",
        dest="interpolation",
        type=float,
        nargs="+",
        default=list(_LAMBDAS),
        help=f"values of the cache's share to choose from (default: {' '.join(map(str, _LAMBDAS))})",
    )


def run(options: Namespace) -> int:
    """Prints a table of the perplexities with and without a neural cache.

    Theta and lambda are chosen on the validation text. The data are those of the experiment, the model is that of the
    checkpoint.

    Args:
        options: what a parser with `add_options` returned, and ``experiment``, the options of the experiment.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: if there is no such checkpoint, or the data are missing.
        ValueError: if an argument is outside what is allowed, the checkpoint is of another kind of task, or its
            vocabulary is not that of the data.
    """
    check_neural_cache(options.theta, options.interpolation, options.window)
    task = load_language_model(options.ckpt_path)
    assert task.vocabulary is not None
    command = run_experiment(options.experiment, run=False)
    data: Any = command.datamodule
    data.prepare_data()
    data.setup("test")
    if not hasattr(data, "vocabulary"):
        raise ValueError(f"data must be a data module for language models, got {type(data).__name__}.")
    data.vocabulary.check_same(task.vocabulary.words, f"ckpt_path={options.ckpt_path!r}")
    result = evaluate_neural_cache(
        task.to(command.trainer.strategy.root_device),
        # None: no bar where the output is a file or a pipe.
        tqdm(data.val_dataloader(), desc="Validation", unit="batch", disable=None),
        tqdm(data.test_dataloader(), desc="Test", unit="batch", disable=None),
        thetas=options.theta,
        interpolations=options.interpolation,
        window=options.window,
    )
    sys.stdout.write(_table(result, options.window))
    return 0


def _table(result: NeuralCacheResult, window: int) -> str:
    lines = [
        f"| perplexity | without cache | window={window}, theta={result.theta:g}, lambda={result.interpolation:g} |",
        "| --- | ---: | ---: |",
        f"| validation | {result.validation:.2f} | {result.validation_cached:.2f} |",
        f"| test | {result.test:.2f} | {result.test_cached:.2f} |",
    ]
    return "\n".join(lines) + "\n"

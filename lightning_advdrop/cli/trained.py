"""The commands for trained models: ``advdrop classify``, ``advdrop cache`` and ``advdrop generate``."""

from __future__ import annotations

import io
import itertools
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from lightning_advdrop.cli.experiments import run_experiment
from lightning_advdrop.functional import check_neural_cache
from lightning_advdrop.tasks import evaluate_neural_cache, generate, load_language_model, load_text_classifier

THETAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
LAMBDAS = (0.05, 0.1, 0.15, 0.2, 0.3)


def add_classify_options(parser: ArgumentParser) -> None:
    """Add the options of ``advdrop classify`` to a parser."""
    _add_checkpoint(parser, "a TextClassificationTask")
    parser.add_argument("--batch_size", type=int, default=64, help="how many texts are read at once (default: 64)")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text; without any, each line of the input is one")


def run_classify(options: Namespace) -> None:
    """Print the label and its probability of each text, a line each, as the texts come.

    Args:
        options: what `add_classify_options` parses.

    Raises:
        ValueError: if the checkpoint is none of a `TextClassificationTask`, ``batch_size`` is below 1, there is no
            text, or a line of the input is not UTF-8.
    """
    if options.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {options.batch_size}.")
    task, printed = load_text_classifier(options.ckpt_path), False
    texts = iter(options.texts or _lines(sys.stdin))
    while batch := list(itertools.islice(texts, options.batch_size)):
        for found in task.classify(batch, options.batch_size):
            print(f"{found.name}\t{found.probability:.4f}", flush=True)
            printed = True
    if not printed:
        raise ValueError("texts must be given, or lines in the input, got none.")


def add_cache_options(parser: ArgumentParser) -> None:
    """Add the options of ``advdrop cache`` to a parser."""
    _add_checkpoint(parser, "a language model")
    parser.add_argument(
        "--window", type=int, default=2000, metavar="N", help="words in the cache (default: %(default)s)"
    )
    _add_choices(parser, "--theta", THETAS, "the flatness", "theta")
    _add_choices(parser, "--lambda", LAMBDAS, "the cache's share", "interpolation")


def run_cache(options: Namespace) -> str:
    """Evaluate a language model with and without a neural cache, whose settings are chosen on the validation text.

    Args:
        options: what `add_cache_options` parses, and ``experiment``, the options of the experiment that has the data.

    Returns:
        A table of perplexities.

    Raises:
        FileNotFoundError: if there is no such checkpoint, or the data are missing.
        ValueError: if ``theta``, ``lambda`` or ``window`` is out of its range, the checkpoint is of another kind of
            task, or its vocabulary is not that of the data.
    """
    check_neural_cache(options.theta, options.interpolation, options.window)
    task = load_language_model(options.ckpt_path)
    command = run_experiment(options.experiment, run=False)
    data: Any = command.datamodule
    data.prepare_data()
    data.setup("test")
    if not hasattr(data, "vocabulary"):
        raise ValueError(f"data must be a data module for language models, got {type(data).__name__}.")
    assert task.vocabulary is not None
    data.vocabulary.check_same(task.vocabulary.words, f"ckpt_path={options.ckpt_path!r}")
    found = evaluate_neural_cache(
        task.to(command.trainer.strategy.root_device),
        # None: no bar where the output is a file or a pipe.
        tqdm(data.val_dataloader(), desc="Validation", unit="batch", disable=None),
        tqdm(data.test_dataloader(), desc="Test", unit="batch", disable=None),
        thetas=options.theta,
        interpolations=options.interpolation,
        window=options.window,
    )
    settings = f"window={options.window}, theta={found.theta:g}, lambda={found.interpolation:g}"
    return (
        f"| perplexity | without cache | {settings} |\n| --- | ---: | ---: |\n"
        f"| validation | {found.validation:.2f} | {found.validation_cached:.2f} |\n"
        f"| test | {found.test:.2f} | {found.test_cached:.2f} |"
    )


def add_generate_options(parser: ArgumentParser) -> None:
    """Add the options of ``advdrop generate`` to a parser."""
    _add_checkpoint(parser, "a language model")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the beginning: words between white space")
    parser.add_argument("--length", type=int, default=50, metavar="N", help="words to write (default: %(default)s)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 for the more probable words, 0 for the most probable one only (default: %(default)s)",
    )
    parser.add_argument(
        "--top_k", type=int, default=0, metavar="K", help="most probable words to choose from; 0 for all, the default"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: %(default)s)")
    parser.add_argument(
        "--allow_unknown", action="store_true", help="let the word that stands for unknown ones be written"
    )


def run_generate(options: Namespace) -> str:
    """Continue a text with a language model; what it could not read goes to the standard error stream.

    Args:
        options: what `add_generate_options` parses.

    Returns:
        The prompt and what the model writes behind it.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: see `lightning_advdrop.tasks.load_language_model` and `lightning_advdrop.tasks.generate`.
    """
    names = ("prompt", "length", "temperature", "top_k", "seed", "allow_unknown")
    written = generate(load_language_model(options.ckpt_path), **{name: getattr(options, name) for name in names})
    if written.replaced:
        print(f"Note: not in the vocabulary, read as <unk>: {', '.join(written.replaced)}", file=sys.stderr)
    gap = " " if options.prompt.strip() and not written.text.startswith("\n") else ""
    return f"{options.prompt.rstrip(' ')}{gap}{written.text}"


def _add_checkpoint(parser: ArgumentParser, kind: str) -> None:
    parser.add_argument("--ckpt_path", required=True, metavar="FILE", help=f"checkpoint of {kind}")


def _add_choices(parser: ArgumentParser, name: str, values: Sequence[float], meaning: str, dest: str) -> None:
    told = f"values of {meaning} to choose from (default: {' '.join(map(str, values))})"
    parser.add_argument(name, dest=dest, type=float, nargs="+", default=list(values), help=told)


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a file in UTF-8, whatever the system's encoding."""
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(file, start=1):
        text = line.rstrip("\r\n")
        wrong = [character for character in text if "\udc80" <= character <= "\udcff"]
        if wrong:
            raise ValueError(f"line {number} of the input must be UTF-8, got the byte {ord(wrong[0]) - 0xDC00:#04x}.")
        yield text

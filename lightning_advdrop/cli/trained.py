"""The commands for trained models: ``advdrop classify``, ``advdrop cache`` and ``advdrop generate``."""

from __future__ import annotations

import io
import itertools
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, TextIO

from tqdm import tqdm

from lightning_advdrop import tasks
from lightning_advdrop._ranges import check_range
from lightning_advdrop.cli.experiments import run_experiment
from lightning_advdrop.files import TEXT_ENCODING
from lightning_advdrop.functional import check_neural_cache


def classify(options: Namespace) -> None:
    """Print the label and its probability of each text, a line each, as the texts come.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint is none of a `TextClassificationTask`, ``batch_size`` is below 1, there is no
            text, or a line of the input is not UTF-8.
    """
    check_range("at least 1", batch_size=options.batch_size)
    task, printed = tasks.load_text_classifier(options.ckpt_path), False
    texts = iter(options.texts or _lines(sys.stdin))
    while batch := list(itertools.islice(texts, options.batch_size)):
        for found in task.classify(batch, options.batch_size):
            print(f"{found.name}\t{found.probability:.4f}", flush=True)
            printed = True
    if not printed:
        raise ValueError("texts must be given, or lines in the input, got none.")


def cache(options: Namespace) -> str:
    """Return a table of perplexities without and with a neural cache, whose settings suit the validation text best.

    Raises:
        FileNotFoundError: if there is no such checkpoint, or the data are missing.
        ValueError: if ``theta``, ``lambda`` or ``window`` is out of its range, the checkpoint is of another kind of
            task, or its vocabulary is not that of the data.
    """
    settings = {"thetas": options.theta, "interpolations": options.interpolation, "window": options.window}
    check_neural_cache(**settings)
    task = tasks.load_language_model(options.ckpt_path)
    command = run_experiment(options.experiment, run=False)
    data: Any = command.datamodule
    data.prepare_data()
    data.setup("test")
    if not hasattr(data, "vocabulary"):
        raise ValueError(f"data must be a data module for language models, got {type(data).__name__}.")
    assert task.vocabulary is not None
    data.vocabulary.check_same(task.vocabulary.words, f"ckpt_path={options.ckpt_path!r}")
    found = tasks.evaluate_neural_cache(
        task.to(command.trainer.strategy.root_device),
        # None: no bar where the output is a file or a pipe.
        tqdm(data.val_dataloader(), desc="Validation", unit="batch", disable=None),
        tqdm(data.test_dataloader(), desc="Test", unit="batch", disable=None),
        **settings,
    )
    chosen = f"window={options.window}, theta={found.theta:g}, lambda={found.interpolation:g}"
    return (
        f"| perplexity | without cache | {chosen} |\n| --- | ---: | ---: |\n"
        f"| validation | {found.validation:.2f} | {found.validation_cached:.2f} |\n"
        f"| test | {found.test:.2f} | {found.test_cached:.2f} |"
    )


def generate(options: Namespace) -> str:
    """Return a prompt and what a language model writes behind it; words that it can't read go to standard error.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: see `lightning_advdrop.tasks.load_language_model` and `lightning_advdrop.tasks.generate`.
    """
    names = ("prompt", "length", "temperature", "top_k", "seed", "allow_unknown")
    task = tasks.load_language_model(options.ckpt_path)
    written = tasks.generate(task, **{name: getattr(options, name) for name in names})
    if written.replaced:
        print(f"Note: not in the vocabulary, read as <unk>: {', '.join(written.replaced)}", file=sys.stderr)
    gap = " " if options.prompt.strip() and not written.text.startswith("\n") else ""
    return f"{options.prompt.rstrip(' ')}{gap}{written.text}"


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a file in UTF-8, whatever the system's encoding; a byte order mark is skipped."""
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding=TEXT_ENCODING, errors="surrogateescape")
    for number, line in enumerate(file, start=1):
        text = line.rstrip("\r\n")
        # NUL is no text, either: files in UTF-16 have it.
        wrong = [ord(character) for character in text if character == "\0" or "\udc80" <= character <= "\udcff"]
        if wrong:
            raise ValueError(f"line {number} of the input must be UTF-8, got the byte {wrong[0] & 0xFF:#04x}.")
        yield text

"""The command ``advdrop classify``: texts in, a label and its probability out."""

from __future__ import annotations

import io
import itertools
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from typing import TextIO

from lightning_advdrop.tasks import Classified, TextClassificationTask, load_text_classifier


def add_options(parser: ArgumentParser) -> None:
    """Adds the command's options to a parser."""
    parser.add_argument("--ckpt_path", required=True, metavar="FILE", help="checkpoint of a TextClassificationTask")
    parser.add_argument("--batch_size", type=int, default=64, help="how many texts are read at once (default: 64)")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text; without any, each line of the input is one")


def run(options: Namespace) -> int:
    """Prints the label and its probability of each text, a line each.

    Args:
        options: what `add_options` parses.

    Returns:
        The exit code.

    Raises:
        ValueError: if the checkpoint is none of a `TextClassificationTask`, ``batch_size`` is below 1, there is no
            text, or a line of the input is not UTF-8.
    """
    task = load_text_classifier(options.ckpt_path)
    printed = False
    for found in classify(task, options.texts or _lines(sys.stdin), options.batch_size):
        print(f"{found.name}\t{found.probability:.4f}", flush=True)  # noqa: T201 - the answer of a command
        printed = True
    if not printed:
        raise ValueError("texts must be given, or lines in the input, got none.")
    return 0


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


def classify(task: TextClassificationTask, texts: Iterable[str], batch_size: int) -> Iterator[Classified]:
    """Classifies texts as they come, a batch at a time.

    Args:
        task: a classifier with a vocabulary.
        texts: any number of strings.
        batch_size: how many are read at once, at least 1.

    Raises:
        ValueError: if ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    texts = iter(texts)
    while batch := list(itertools.islice(texts, batch_size)):
        yield from task.classify(batch, batch_size)

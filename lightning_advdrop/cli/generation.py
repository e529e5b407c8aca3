"""The command ``advdrop generate``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from lightning_advdrop.tasks import generate, load_language_model


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of ``advdrop generate`` to a parser."""
    parser.add_argument("--ckpt_path", required=True, metavar="FILE", help="checkpoint of a language model")
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


def run(options: Namespace) -> int:
    """Prints the prompt and what the model writes behind it; what it could not read goes to the standard error stream.

    Args:
        options: what a parser with `add_options` returned.

    Returns:
        The exit code, 0.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: see `lightning_advdrop.tasks.load_language_model` and `lightning_advdrop.tasks.generate`.
    """
    written = generate(
        load_language_model(options.ckpt_path),
        options.prompt,
        options.length,
        options.temperature,
        options.top_k,
        options.seed,
        options.allow_unknown,
    )
    if written.replaced:
        sys.stderr.write(f"Note: not in the vocabulary, read as <unk>: {', '.join(written.replaced)}\n")
    gap = " " if options.prompt.strip() and not written.text.startswith("\n") else ""
    sys.stdout.write(f"{options.prompt.rstrip(' ')}{gap}{written.text}\n")
    return 0

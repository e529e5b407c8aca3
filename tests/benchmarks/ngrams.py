"""Perplexity of bigrams that are counted, which language models are to beat.

Run with ``python -m tests.benchmarks.ngrams``, with ``--train_tokens`` for the beginning of the training texts only.
Reads the data sets below the folder that ``LIGHTNING_ADVDROP_DATA`` names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lightning_advdrop.datamodules import PennTreebankDataModule, WikiText2DataModule
from tests.helpers.ngrams import perplexities

DATA = {"ptb": PennTreebankDataModule, "wikitext2": WikiText2DataModule}


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, nargs="+", default=list(DATA), help="data sets")
    parser.add_argument("--train_tokens", type=int, help="train on this many words from the beginning; default: all")
    parser.add_argument("--max_words", type=int, help="size of the vocabulary beside <unk> and <eos>; default: all")
    arguments = parser.parse_args(args)
    print("| data | training words | validation | test |\n| --- | --- | --- | --- |")
    for name in arguments.data:
        data = DATA[name](train_tokens=arguments.train_tokens, max_words=arguments.max_words)
        data.prepare_data()
        data.setup()
        train, validation, test = (data.text(split) for split in ("train", "validation", "test"))
        valid, tested = perplexities(train, validation, test, len(data.vocabulary))
        print(f"| {name} | {len(train):,} | {valid:.1f} | {tested:.1f} |")


if __name__ == "__main__":
    main()

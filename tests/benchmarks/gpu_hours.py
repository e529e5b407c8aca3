"""Estimate how long the full configurations take on a GPU: ``python -m tests.benchmarks.gpu_hours --docs``.

By arithmetic, not by a run. A configuration has so many updates, each of so many passes, each with a forward and a
backward pass through time. Two things take time: the multiplications of the recurrent layers and of the softmax, at the
rate that a GPU attains; and the launches of the kernels of each time step, which follow one another. The hours are the
sum of both. ``--docs`` writes the table into ``docs/reproducing.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import yaml

from lightning_advdrop.files import configs_folder
from tests.benchmarks.page import DOCS, write_between

#: Kernels of a time step of a masked layer, forward (docs/design.md, *The kernel*); a backward pass has about as many
#: for the states, and as many for the products.
FORWARD, BACKWARD = 10, 20
#: Images and words for training.
_IMAGES, _WORDS = 55_000, {"PennTreebank": 929_589, "WikiText2": 2_088_628}
_VOCABULARY = {"PennTreebank": 10_000, "WikiText2": 33_278}
_CONFIGURATIONS = (
    *("smnist", "psmnist", "imdb_pretrain", "imdb_pretrain_backward", "imdb", "imdb_bidirectional"),
    *("elec_pretrain", "elec", "rcv1_pretrain", "rcv1", "ptb", "ptb_finetune", "wikitext2", "wikitext2_finetune"),
)


@dataclass(frozen=True)
class Work:
    """What a training consists of.

    Args:
        updates: of the weights.
        passes: of each update, each forward and backward.
        steps: time steps of a pass.
        examples: of a batch.
        layers: inputs and units of each recurrent layer.
        scores: multiply-adds of the softmax for each example and time step.
    """

    updates: int
    passes: int
    steps: int
    examples: int
    layers: tuple[tuple[int, int], ...]
    scores: int = 0

    def hours(self, tflops: float, microseconds: float) -> float:
        """Estimate the hours on a GPU.

        Args:
            tflops: 10^12 floating-point operations per second that large products attain.
            microseconds: from one kernel of a CUDA graph to the next.
        """
        products = sum(4 * units * (inputs + units) for inputs, units in self.layers) + self.scores
        # Forward one product, backward two, of a multiplication and an addition each.
        arithmetic = 3 * 2 * products * self.examples * self.steps / (tflops * 1e12)
        launches = (FORWARD + BACKWARD) * len(self.layers) * self.steps * microseconds * 1e-6
        return self.updates * self.passes * (arithmetic + launches) / 3600


def work_of(name: str) -> Work:
    """Read what a configuration consists of.

    Args:
        name: of the configuration, without its ending.
    """
    content = yaml.safe_load((configs_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    model, data, trainer = content["model"]["init_args"], content["data"]["init_args"], content["trainer"]
    regularizer = content.get("regularizer")
    passes = 1 if regularizer is None else 2 + regularizer["init_args"].get("steps", 1)
    if "mnist" in name:
        updates = trainer["max_epochs"] * (_IMAGES // data["batch_size"])
        return Work(updates, passes, 784, data["batch_size"], ((1, model["hidden_size"]),))
    if "LanguageModeling" in content["model"]["class_path"]:
        return _language(content["data"]["class_path"], model, data, trainer["max_epochs"], passes)
    units = model["hidden_size"]
    examples = data["batch_size"] + data.get("unlabelled_batch_size", 0)
    layers = ((model["embedding_size"], units),) * (2 if model.get("bidirectional") else 1)
    # The most frequent words have their own place in an adaptive softmax, the others share one for each group.
    scores = units * (model["cutoffs"][0] + len(model["cutoffs"])) if "cutoffs" in model else 0
    return Work(trainer["max_steps"], passes, data["max_tokens"], examples, layers, scores)


def _language(path: str, model: dict[str, Any], data: dict[str, Any], epochs: int, passes: int) -> Work:
    (corpus,) = (each for each in _WORDS if each in path)
    embedded, units, count = model["embedding_size"], model["hidden_size"], model["num_layers"]
    sizes = [embedded, *[units] * (count - 1), embedded]
    updates = epochs * ceil(_WORDS[corpus] / (data["batch_size"] * data["length"]))
    scores = embedded * _VOCABULARY[corpus]
    return Work(updates, passes, data["length"], data["batch_size"], tuple(pairwise(sizes)), scores)


def table(tflops: float, microseconds: float) -> str:
    """Return the table in Markdown, with what it assumes."""
    lines = ["| configuration | updates | passes | time steps | hours |", "| --- | --- | --- | --- | --- |"]
    for name in _CONFIGURATIONS:
        work = work_of(name)
        hours = work.hours(tflops, microseconds)
        cells = [
            f"`{name}.yaml`",
            f"{work.updates:,}",
            work.passes,
            work.steps,
            f"{hours:.2g}" if hours < 10 else f"{hours:.0f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    told = (
        f"For a GPU that attains {tflops:g} TFLOP/s in float32 products, with {microseconds:g} microseconds from one "
        f"kernel of a CUDA graph to the next, and {FORWARD} + {BACKWARD} kernels for each time step of a layer."
    )
    return "\n".join([*lines, "", told])


def main(args: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.gpu_hours",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tflops", type=float, default=10.0, help="that products of float32 attain (%(default)s)")
    parser.add_argument("--microseconds", type=float, default=2.0, help="from one kernel to the next (%(default)s)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/reproducing.md")
    options = parser.parse_args(args)
    found = table(options.tflops, options.microseconds)
    print(found)
    if options.docs:
        write_between(DOCS / "reproducing.md", "gpu hours", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())

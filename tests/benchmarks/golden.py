"""Trains every task with every method for 20 steps, to see whether a change of the code changes any weight.

Save the digests before a change and compare after it, on the same machine::

    python -m tests.benchmarks.golden --save before.json
    python -m tests.benchmarks.golden --compare before.json

A digest covers every bit of the weights after the last step, and the loss on the test data.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule

from lightning_advdrop.cli import run_experiment
from tests.configs.test_configs import CONFIGS, tiny_data
from tests.helpers.tiny_data import TINY_DATA

STEPS = 20
OPTIONS = (
    *("--trainer.limit_train_batches", "6"),
    *("--trainer.max_steps", str(STEPS), "--trainer.max_epochs", "1000", "--trainer.limit_val_batches", "1"),
    *("--trainer.limit_test_batches", "1", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.check_val_every_n_epoch", "1"),
)
# The experiment of each task that every overlay made for it is tried with; the others run as they are, and plain.
METHODS = {
    "smnist_rows": ("methods",),
    "imdb_small": ("methods", "methods/text"),
    "ptb_small": ("methods", "methods/language_modeling"),
}


def cases() -> Iterator[tuple[str, list[str]]]:
    """The name of each run and the options that belong to it."""
    for config in CONFIGS:
        if config.stem.endswith("_finetune"):
            continue
        options = ["--config", str(config)]
        yield config.stem, options
        yield f"{config.stem} plain", [*options, "--regularizer", "null"]
        for folder in METHODS.get(config.stem, ()):
            for overlay in sorted((config.parent / folder).glob("*.yaml")):
                yield f"{config.stem} {folder}/{overlay.stem}", [*options, "--config", str(overlay)]


def digest(model: LightningModule) -> str:
    """Of every bit of the weights and buffers."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            found.update(
                name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            )
    return found.hexdigest()[:16]


def train(options: list[str]) -> str:
    """Trains a case in the working folder; returns its digest and its test loss."""
    tiny, overrides = tiny_data(Path(options[1]))
    arguments = ["fit", *options, *OPTIONS, *overrides, *tiny.model_overrides]
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        command = run_experiment(arguments)
    assert command.trainer.global_step == STEPS
    return f"{digest(command.model)} {float(command.trainer.callback_metrics['test/loss']).hex()}"


def run(only: str) -> dict[str, str]:
    """The digest of each case, by its name."""
    found = {}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for tiny in TINY_DATA.values():
            tiny.write(Path(folder), patch)
        patch.setenv("LIGHTNING_ADVDROP_DATA", folder)
        patch.setenv("LIGHTNING_ADVDROP_CACHE", f"{folder}/cache")
        patch.setenv("WANDB_MODE", "disabled")
        patch.chdir(folder)
        for name, options in cases():
            if only in name:
                try:
                    found[name] = train(options)
                except Exception as error:
                    found[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                print(f"{name:70} {found[name]}", flush=True)
    return found


def main() -> int:
    """Saves or compares; returns 1 if a case differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, help="write the digests to this file")
    parser.add_argument("--compare", type=Path, help="compare with the digests in this file")
    parser.add_argument("--only", default="", help="run the cases with this in their names")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = run(arguments.only)
    if arguments.save:
        arguments.save.write_text(json.dumps(found, indent=1))
    if not arguments.compare:
        return 0
    before = json.loads(arguments.compare.read_text())
    different = [name for name in found if before.get(name) != found[name]]
    missing = [name for name in before if arguments.only in name and name not in found]
    print(f"{len(found) - len(different)} of {len(found)} cases as before, {len(missing)} missing: {missing}")
    for name in different:
        print(f"{name}\n  before {before.get(name)}\n  now    {found[name]}")
    return int(bool(different or missing))


if __name__ == "__main__":
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    sys.exit(main())

"""Times the preparation of IMDB, ours and torchtext's, each in a process of its own, one after the other.

Run with ``python -m tests.benchmarks.bench_imdb``. It needs the published archive below ``LIGHTNING_ADVDROP_DATA``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torchtext
from torchtext.data import BucketIterator, Field

from lightning_advdrop import IMDBDataModule
from lightning_advdrop.datamodules.text import split_at_punctuation

BATCHES = 300
Figures = dict[str, Any]


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


def ours(folder: Path) -> Figures:
    """Everything from the archive to the first training batch; what lies in ``folder`` already is used."""
    before, start, cpu = peak_gib(), time.perf_counter(), time.process_time()
    module = IMDBDataModule(cache=folder)
    module.prepare_data()
    prepared = time.perf_counter() - start
    module.setup()
    loader: Any = module.train_dataloader()
    batch, _, _ = next(iter(loader))
    first_batch, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    epoch = time.process_time()
    batches = sum(1 for _ in islice(loader, BATCHES))
    parts = {part: (len(documents), int(documents.lengths.sum())) for part, documents in module._sets.items()}
    return {
        "prepared": prepared,
        "first batch": first_batch,
        "cpu": cpu_seconds,
        "a batch": (time.process_time() - epoch) / batches,
        "documents": sum(count for count, _ in parts.values()),
        "tokens": sum(tokens for _, tokens in parts.values()),
        "peak": peak_gib(),
        "peak before": before,
        "parts": parts,
        "vocabulary": len(module.vocabulary),
        "unknown": module.vocabulary.counts[0],
        "batch": {name: list(part.tokens.shape) for name, part in batch.items()},
    }


def torchtexts(folder: Path) -> Figures:
    """torchtext's own data set, from the unpacked folder to its first training batch, with the same tokenizer."""
    before, start, cpu = peak_gib(), time.perf_counter(), time.process_time()
    text, label = Field(tokenize=split_at_punctuation, fix_length=400), Field(sequential=False)
    train, test = torchtext.datasets.IMDB.splits(text, label, root=str(folder))
    text.build_vocab(train)
    label.build_vocab(train)
    iterator, _ = BucketIterator.splits((train, test), batch_size=64, device="cpu")
    batch = next(iter(iterator))
    return {
        "first batch": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "documents": len(train) + len(test),
        "tokens": sum(len(example.text) for part in (train, test) for example in part),
        "peak": peak_gib(),
        "peak before": before,
        "vocabulary": len(text.vocab),
        "batch": list(batch.text.shape),
    }


STEPS: dict[str, Callable[[Path], Figures]] = {"ours": ours, "torchtext": torchtexts}


def in_a_process(step: str, folder: Path) -> Figures:
    command = [sys.executable, "-m", "tests.benchmarks.bench_imdb", "--step", step, "--folder", str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def unpack(folder: Path) -> None:
    (folder / "imdb").mkdir()
    with tarfile.open(IMDBDataModule().folder / "aclImdb_v1.tar.gz") as archive:
        archive.extractall(folder / "imdb", filter="data")


def row(name: str, figures: Figures) -> str:
    seconds = figures["first batch"]
    return (
        f"| {name} | {figures['documents']:,} | {figures['tokens']:,} | {seconds:.2f} |"
        f" {figures['cpu']:.2f} | {figures['tokens'] / seconds:,.0f} |"
        f" {figures['peak']:.2f} | {figures['peak before']:.2f} | {figures['vocabulary']:,} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", choices=STEPS, help="measure only this, and print it as JSON")
    parser.add_argument("--folder", type=Path, help="prepared data, or what torchtext reads")
    parser.add_argument("--ours-only", action="store_true", help="leave torchtext out")
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = in_a_process("ours", folder), in_a_process("ours", folder)
        rows = [row("ours, from the archive", first), row("ours, second start", second)]
        if not arguments.ours_only:
            unpack(folder)
            rows.append(
                row("torchtext, from the unpacked folder, labelled reviews only", in_a_process("torchtext", folder))
            )
    print("| | documents | tokens | s to the first batch | CPU s | tokens/s | peak GiB | of it imports | words |")
    print("|" + " --- |" * 9, *rows, sep="\n")
    print(f"preparation {first['prepared']:.2f} s, then {second['prepared']:.2f} s")
    print(f"{1000 * second['a batch']:.2f} ms of processor time for a training batch of {second['batch']}")
    print(f"documents and tokens {first['parts']}")
    print(f"{first['unknown']:,} training tokens are words of one document only; first batch {first['batch']}")


if __name__ == "__main__":
    main()

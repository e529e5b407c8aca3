"""Runs of many methods and seeds, each a line of a CSV file, taken up where they stopped."""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from lightning_advdrop.files import replacing


class Row(NamedTuple):
    """A finished run: the method, the seed, the test error in percent, and the seconds of its processor."""

    method: str
    seed: int
    error: float
    seconds: float

    @classmethod
    def of(cls, saved: Mapping[str, str]) -> Row:
        """From a line of the file."""
        return cls(saved["method"], int(saved["seed"]), float(saved["error"]), float(saved["seconds"]))


#: Trains with a method and a seed; the last argument is for a tiny run, to try the program.
Run = Callable[[str, int, bool], Row]


def read(path: Path) -> list[Row]:
    """The rows of a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Row.of(line) for line in csv.DictReader(file)]


def in_order(rows: Sequence[Row], order: Iterable[str]) -> list[Row]:
    """The rows by method, in the order given, and by seed."""
    places = {method: place for place, method in enumerate(order)}
    return sorted(rows, key=lambda row: (places[row.method], row.seed))


def write(path: Path, rows: Sequence[Row], order: Iterable[str]) -> None:
    """Write all rows at once, so that a kill leaves the file as it was before or after."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(in_order(rows, order))


def missing(rows: Sequence[Row], methods: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """The runs that are still to be made, seed by seed."""
    done = {(row.method, row.seed) for row in rows}
    return [(method, seed) for seed in seeds for method in methods if (method, seed) not in done]


def train_missing(
    path: Path, run: Run, chosen: Sequence[tuple[str, int]], *, order: Sequence[str], jobs: int, small: bool
) -> None:
    """Make runs, and add each to the file as it ends.

    Args:
        path: the file.
        run: makes one; a function of a module, since other processes call it.
        chosen: the methods and seeds.
        order: all methods, in the order that the file has them in.
        jobs: processes, of one thread each.
        small: whether the runs are tiny.
    """
    rows = read(path)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, end_with_parent, (os.getpid(),)) as pool:
        runs = [pool.submit(run, method, seed, small) for method, seed in chosen]
        for number, finished in enumerate(as_completed(runs), 1):
            rows.append(finished.result())
            write(path, rows, order)
            print(f"{number} of {len(runs)}: {rows[-1]}", file=sys.stderr, flush=True)


def repeats(rows: Sequence[Row], run: Run, method: str, seed: int, *, small: bool) -> bool:
    """Repeat a run, and print both errors; return whether they are the same."""
    (before,) = (row for row in rows if (row.method, row.seed) == (method, seed))
    again = run(method, seed, small)
    print(f"{method}, seed {seed}: {before.error} % in the file, {again.error} % now")
    return before.error == again.error


def parser(
    name: str, description: str | None, methods: Iterable[str], seeds: Sequence[int], file: Path | None = None
) -> argparse.ArgumentParser:
    """Make the parser of a program that makes such runs.

    Args:
        name: that of its module below ``tests.benchmarks``.
        description: what it does.
        methods: all its methods.
        seeds: those that it takes by default.
        file: the CSV file by default; None where one must be given.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("file", type=Path, nargs="?" if file else None, default=file, help="the CSV file of all runs")
    made.add_argument("--methods", nargs="+", choices=[*methods], default=[*methods], help="by default, all")
    made.add_argument("--seeds", nargs="+", type=int, default=[*seeds])
    made.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    made.add_argument("--repeat", nargs=2, metavar=("METHOD", "SEED"), help="repeat a row of the file, and compare")
    made.add_argument("--docs", action="store_true", help="write what was found into the documentation")
    made.add_argument("--small", action="store_true", help="tiny runs, to try the program")
    return made


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent was killed, instead of waiting for work forever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

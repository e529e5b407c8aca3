"""Measure cells, each in a process of its own, and print them as JSON: ``python -m tests.benchmarks.price.cell``."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from tests.benchmarks.price.meters import (
    RETURNING,
    Clock,
    ClockName,
    Meter,
    PeakMemory,
    finished,
    no_huge_pages,
    started,
)
from tests.benchmarks.price.shapes import SHAPES, Sizes
from tests.benchmarks.price.steps import measure

_MODULE = "tests.benchmarks.price.cell"
WARM_UP = 3  # in the first steps of a module all its parameters are compared with a copy


@dataclass(frozen=True)
class Cell:
    """A method at a shape and sizes, measured by its memory, or by its time in several processes."""

    shape: str
    method: str
    sizes: Sizes
    processes: int = 1
    repeats: int = 2
    clock: ClockName = "wall"


def measured(cell: Cell) -> float:
    """The growth of memory in bytes; with several processes, the median seconds of a step."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    meter: Meter = PeakMemory() if cell.processes == 1 else Clock(cell.clock)
    more: dict[str, Any] = {} if cell.processes == 1 else {"devices": cell.processes, "strategy": "ddp"}
    found = measure(
        SHAPES[cell.shape],
        [cell.method],
        {"meter": meter},
        sizes=Sizes(*cell.sizes),
        repeats=cell.repeats,
        warm_up=WARM_UP,
        **more,
    )["meter"][cell.method]
    return float(sorted(found)[len(found) // 2])


def memory(cells: Sequence[Cell], jobs: int) -> list[float | str]:
    """The growth of each cell, several at a time; a message where one failed."""
    text = json.dumps([asdict(cell) for cell in cells])
    values: list[float | str] = finished(started(_MODULE, ["--jobs", str(jobs), text], RETURNING))
    return values


def seconds(cell: Cell, port: int) -> float:
    """The time of a step in several processes on this machine, each with one thread.

    Raises:
        RuntimeError: if one of them failed.
    """
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(cell.processes), "NODE_RANK": "0"}
    text = json.dumps(asdict(cell))
    started_all = [started(_MODULE, [text], {**common, "LOCAL_RANK": str(rank)}) for rank in range(cell.processes)]
    values = [float(finished(process)) for process in started_all]
    return values[0]


def _in_forks(cells: Sequence[Cell], jobs: int) -> list[float | str]:
    """Measure each cell in a copy of this process, which has imported all and computed nothing."""
    context, values = multiprocessing.get_context("fork"), []
    for first in range(0, len(cells), jobs):
        ends = []
        for cell in cells[first : first + jobs]:
            mine, theirs = context.Pipe(duplex=False)
            context.Process(target=_send, args=(cell, theirs)).start()
            theirs.close()
            ends.append(mine)
        values += [_received(end) for end in ends]
    return values


def _send(cell: Cell, end: Connection) -> None:
    try:
        end.send(measured(cell))
    except Exception as error:
        end.send(str(error))


def _received(end: Connection) -> float | str:
    try:
        value: float | str = end.recv()
    except EOFError:
        return "the process was killed, perhaps for want of memory"
    return value


def main() -> None:
    if sys.argv[1] == "--jobs":
        no_huge_pages()
        jobs, cells = int(sys.argv[2]), [Cell(**each) for each in json.loads(sys.argv[3])]
        print(json.dumps(_in_forks(cells, jobs)))
        return
    print(json.dumps(measured(Cell(**json.loads(sys.argv[1])))), flush=True)
    torch.distributed.destroy_process_group()
    os._exit(0)  # a process that was a member of a group now and then aborts in gloo's threads at its end


if __name__ == "__main__":
    main()

"""Measure cells, each in a process of its own, and print them as JSON: ``python -m tests.benchmarks.price.cell``."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping, Sequence
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
SHORT = 2  # of these


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
        short=SHORT,
        **more,
    )["meter"][cell.method]
    return float(sorted(found)[len(found) // 2])


def memory(cells: Sequence[Cell], jobs: int) -> list[float | str]:
    """The growth of each cell, several at a time; a message where one failed."""
    return _in_a_server(cells, jobs, RETURNING)


def seconds(cells: Sequence[Cell]) -> list[float | str]:
    """The time of a step of each cell in its several processes, each with one thread; a message where one failed."""
    return _in_a_server(cells, 1, {})


def _in_a_server(cells: Sequence[Cell], jobs: int, environment: Mapping[str, str]) -> list[float | str]:
    text = json.dumps([asdict(cell) for cell in cells])
    values: list[float | str] = finished(started(_MODULE, [str(jobs), text], environment))
    return values


def _in_forks(cells: Sequence[Cell], jobs: int) -> list[float | str]:
    """Measure each cell in copies of this process, which has imported all and computed nothing."""
    values = []
    for first in range(0, len(cells), jobs):
        values += [_received(ends) for ends in [_forked(cell) for cell in cells[first : first + jobs]]]
    return values


def _forked(cell: Cell) -> list[Connection]:
    """Start the processes of a cell, and return where their values will come from."""
    context, ends = multiprocessing.get_context("fork"), []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "NODE_RANK": "0"}
    for rank in range(cell.processes):
        mine, theirs = context.Pipe(duplex=False)
        member = {**group, "WORLD_SIZE": str(cell.processes), "LOCAL_RANK": str(rank)} if cell.processes > 1 else {}
        context.Process(target=_send, args=(cell, theirs, member)).start()
        theirs.close()
        ends.append(mine)
    return ends


def _send(cell: Cell, end: Connection, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    try:
        end.send(measured(cell))
    except Exception as error:
        end.send(str(error))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _received(ends: Sequence[Connection]) -> float | str:
    """Wait for all processes of a cell; return the value of the first."""
    values: list[float | str] = []
    for end in ends:
        try:
            values.append(end.recv())
        except EOFError:
            values.append("the process was killed, perhaps for want of memory")
    return values[0]


def main() -> None:
    no_huge_pages()
    print(json.dumps(_in_forks([Cell(**each) for each in json.loads(sys.argv[2])], int(sys.argv[1]))))


if __name__ == "__main__":
    main()

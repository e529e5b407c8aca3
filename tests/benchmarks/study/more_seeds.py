"""Further seeds of methods with the values that a finished task has found."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_advdrop.files import replacing

Line = dict[str, Any]


def read_lines(file: Path) -> list[Line]:
    """Read the runs of a file."""
    with file.open(newline="", encoding="utf-8") as opened:
        return [*csv.DictReader(opened)]


def write_lines(file: Path, lines: Sequence[Line]) -> None:
    """Write runs, all or none of them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part, part.open("w", newline="", encoding="utf-8") as opened:
        # Files of earlier versions lack some columns.
        names = dict.fromkeys(name for line in lines for name in line)
        writer = csv.DictWriter(opened, [*names], restval="")
        writer.writeheader()
        writer.writerows(lines)


def add_seeds(
    found: Path,
    file: Path,
    methods: Sequence[str],
    seeds: int,
    run: Callable[..., dict[str, Any]],
    *,
    own: bool = True,
) -> None:
    """Run the seeds that are missing, each with its method's values, and write every run at once.

    Args:
        found: the runs that have the values.
        file: those with more seeds; if it exists, it goes on.
        methods: of which seeds are run.
        seeds: how many each method has in the end.
        run: called with method, values and seed; returns what `run_once` does.
        own: whether the values are of the same task, so that the fresh seeds of its runs are taken over.
    """
    known = [line for line in read_lines(found) if line["phase"] == "seeds" and line["method"] in methods]
    before = known if own else []
    lines = read_lines(file) if file.exists() else []
    there = {(line["method"], line["seed"]) for line in lines}
    lines += [line for line in before if (line["method"], line["seed"]) not in there]
    there |= {(line["method"], line["seed"]) for line in before}
    first = {line["method"]: line for line in reversed(known)}
    order = [*dict.fromkeys([*(line["method"] for line in lines), *methods])]
    for method in methods:
        for seed in range(1, seeds + 1):
            if (method, str(seed)) in there:
                continue
            made = run(method, json.loads(first[method]["values"]), seed)
            told = {name: made[name] for name in ("test", "seconds", "step_seconds", "steps")}
            changed = {"number": seed - 1, "seed": seed, "validation": made["value"], "result": made["test"]}
            lines.append({**first[method], **changed, **told})
            lines.sort(key=lambda line: (order.index(line["method"]), int(line["seed"])))
            write_lines(file, lines)

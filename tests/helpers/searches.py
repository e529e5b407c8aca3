"""Files with the runs of searches, as `advdrop tune` leaves them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from lightning_advdrop.tuning.results import RunRow

COLUMNS = ("method", "phase", "number", "seed", "values", "metric", "result", "step_seconds")


def write_search(
    path: Path, results: Mapping[str, Sequence[float]], metric: str = "test/error", mode: str | None = None
) -> Path:
    """Write runs of a search, and one of its trials that must not count; without a mode as earlier versions did."""
    more = {} if mode is None else {"mode": mode}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *more])
        for place, (method, values) in enumerate(results.items()):
            writer.writerow([method, "search", 0, 0, "{}", "val/loss", 9.0, 9.0, *more.values()])
            for seed, value in enumerate(values, 1):
                writer.writerow([method, "seeds", seed, seed, "{}", metric, value, 0.1 * (place + 1), *more.values()])
    return path


def write_runs(path: Path, *runs: Mapping[str, object]) -> Path:
    """Write runs with all columns that `advdrop tune` writes; what a run doesn't name is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [each.name for each in fields(RunRow)])
        writer.writeheader()
        writer.writerows(runs)
    return path


def with_test(method: str, seed: int, test: float, validation: float | None = None) -> dict[str, object]:
    """A run with a fresh seed, as `write_runs` takes it."""
    found = {"method": method, "phase": "seeds", "state": "complete", "seed": seed, "step_seconds": 0.1}
    return {**found, "metric": "test/loss", "mode": "min", "test": test, "result": test, "validation": validation}


def without_test(method: str, seed: int, validation: float) -> dict[str, object]:
    """The same, of a model or data without a test."""
    metric = {"metric": "val/loss", "test": None, "result": validation}
    return {**with_test(method, seed, 0.0, validation), **metric}


def failed(method: str, seed: int, error: str = "FloatingPointError: val/loss was never finite.") -> dict[str, object]:
    """A run that raised; without an error, one whose process was killed."""
    nothing = {"state": "fail", "step_seconds": None, "validation": None, "result": None}
    return {**without_test(method, seed, 0.0), **nothing, "error": error}

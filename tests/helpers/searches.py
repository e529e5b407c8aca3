"""Files with the runs of searches, as `advdrop tune` leaves them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

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

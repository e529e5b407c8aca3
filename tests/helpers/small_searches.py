"""Searches of a few short runs, in the folder ``tune`` of a test."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning_advdrop.tuning import Result, tune
from tests.helpers.tuned import Sequences, Tagger

TRAINER = {"max_epochs": 2, "accelerator": "cpu", "num_sanity_val_steps": 0}


def small(model: Any = Tagger, **more: Any) -> Result:
    """Search R-Drop beside plain training, with two runs and two fresh seeds."""
    arguments: dict[str, Any] = {"methods": ["r_drop", "none"], "trials": 2, "seeds": 2, "trainer": TRAINER}
    return tune(model, Sequences, **(arguments | more))


def runs() -> list[dict[str, str]]:
    """Return the runs that a search has written."""
    with Path("tune/runs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))

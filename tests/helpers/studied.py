"""Runs of the study's tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_advdrop.tuning import Parts
from lightning_advdrop.tuning.running import run_once
from lightning_advdrop.tuning.searching import quiet
from tests.benchmarks.study import __main__ as study
from tests.benchmarks.study.methods import METHODS
from tests.benchmarks.study.tasks import TaskExperiment


def built_at_lowest(task: str, method: str, folder: Path, *, small: bool = False) -> Parts:
    """The objects of a run with the lowest values of a method's space."""
    values = {argument: entry["low"] for argument, entry in METHODS[method].space.items() if isinstance(entry, dict)}
    with quiet():
        return TaskExperiment(task, small).build(METHODS[method], values, 3, folder)


def result_of(task: str, parts: Parts, folder: Path) -> dict[str, Any]:
    """What a run writes down, its test among it."""
    with quiet():
        return run_once(parts, study.settings(task, folder), folder, None, test=True)

"""The sweeps: Weights & Biases understands them, and each command line that they make is one of ours."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import load_sweep_config

from lightning_advdrop.cli import run_experiment

FOLDER = Path(__file__).parents[2] / "configs" / "sweeps"
SWEEPS = sorted(FOLDER.glob("*.yaml"))


def command_lines(sweep: dict[str, Any]) -> Iterator[list[str]]:
    """What an agent types for each point of a grid."""
    names = list(sweep["parameters"])
    for values in itertools.product(*(sweep["parameters"][name]["values"] for name in names)):
        arguments = [f"--{name}={value}" for name, value in zip(names, values, strict=True)]
        yield [
            each
            for word in sweep["command"]
            for each in (arguments if word == "${args}" else [word])
            if "$" not in each
        ]


def test_there_are_sweeps_of_what_matters() -> None:
    assert {path.stem for path in SWEEPS} == {"rate", "weight", "steps", "method"}


# Weights & Biases leaves the file open.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_it_is_a_sweep(path: Path) -> None:
    sweep: Any = load_sweep_config(str(path))
    gc.collect()
    assert sweep == yaml.safe_load(path.read_text())
    assert set(sweep) == {"program", "method", "metric", "parameters", "command"}
    assert sweep["method"] == "grid"
    assert sweep["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    for found in sweep["parameters"].values():
        assert set(found) == {"values"}
        assert len(found["values"]) > 1
    assert sweep["parameters"]["seed_everything"]["values"] == [0, 1, 2]
    assert path.read_text().startswith("# Sweep: ")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_it_fits_the_schema_of_weights_and_biases(path: Path) -> None:
    """Its package `sweeps` needs a NumPy before 2, so it is rarely installed beside ours."""
    config = pytest.importorskip("sweeps.config")
    assert config.schema_violations_from_proposed_config(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_its_command_lines_are_ours(path: Path) -> None:
    lines = list(command_lines(yaml.safe_load(path.read_text())))
    assert all(line[:2] == ["lightning", "fit"] for line in lines)
    for line in (lines[0], lines[-1]):
        command = run_experiment([*line[2:], "--trainer.logger", "false"], run=False)
        assert command.trainer.max_epochs == 4

"""Fixtures and the rules for tests that need real data or a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# The networks of the tests are so small that threads only cost; in the processes that tests start, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightning as L
import pytest
import torch

torch.set_num_threads(1)

DATA_VARIABLE = "LIGHTNING_ADVDROP_DATA"
# Read before any test changes the environment.
DATA_ROOT = os.environ.get(DATA_VARIABLE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-real-data", action="store_true", help="fail where a test finds no real data")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    L.seed_everything(0, verbose=False)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test writes to the working folder goes away with it; what it logs stays on this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture(autouse=True)
def _gradual_underflow() -> Iterator[None]:
    """The callback turns on flushing of denormal numbers for the process; no test sees what another one did."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def real_data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of the real data sets; the test is skipped, or fails where they are required, if there is none."""
    if DATA_ROOT and Path(DATA_ROOT).is_dir():
        return Path(DATA_ROOT)
    message = f"no real data: looked at the environment variable {DATA_VARIABLE}, which is {DATA_ROOT!r}"
    if request.config.getoption("--require-real-data"):
        pytest.fail(message)
    pytest.skip(message)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device: torch.cuda.is_available() is False"))

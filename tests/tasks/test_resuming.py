"""Every task with every method, resumed in a new process, gives what an uninterrupted run gives, to the bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import MeanMetric

from lightning_advdrop import (
    AdversarialDropoutCallback,
    ExponentialAveraging,
    GlobalRandomState,
    PseudoEnsembleCallback,
    RunningMetrics,
)
from lightning_advdrop.callbacks.mask_generator import OwnGenerator
from lightning_advdrop.callbacks.running_metrics import is_of_training
from lightning_advdrop.datamodules.position import EpochPosition
from tests.helpers.resuming import CASES, PLACES, care, difference, fit, name_of, prepare, saving

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed", "ignore:Checkpoint directory", "ignore:Be aware that when using `ckpt_path`"
)


def test_every_task_and_method_is_resumed_to_the_bit_in_a_new_process(tmp_path: Path) -> None:
    prepare(tmp_path)
    whole = {
        (task, method): fit(tmp_path, task, method, *care(), *saving(tmp_path / name_of(task, method)))
        for task, method in CASES
    }
    subprocess.run([sys.executable, "-m", "tests.helpers.resuming", str(tmp_path)], check=True, cwd=ROOT)
    resumed = torch.load(tmp_path / "resumed.pt", weights_only=True)
    wrong = {
        f"{name_of(task, method)}, {place}": found
        for (task, method), wanted in whole.items()
        for place in PLACES
        if (found := difference(wanted, resumed[task, None if method is None else method.__name__, place]))
    }
    assert wrong == {}
    assert len(resumed) == len(PLACES) * len(CASES)
    plain = {task: wanted for (task, method), wanted in whole.items() if method is None}
    trained = [(task, method) for task, method in CASES if method is not None]
    assert all(difference(plain[task]["weights"], whole[task, method]["weights"]) for task, method in trained)


def forgets(owner: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Make a method that restores something do nothing."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, lambda *_: None)


CARE: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "the loaders' position": ("weights", forgets(EpochPosition, "load_state_dict")),
    "the method's generator": ("weights", forgets(OwnGenerator, "load_state_dict")),
    "the global generators": ("weights", forgets(GlobalRandomState, "load_state_dict")),
    "the average": ("weights", forgets(ExponentialAveraging, "on_load_checkpoint")),
    "the epoch's metrics": ("metrics", forgets(RunningMetrics, "on_load_checkpoint")),
}


def test_a_resumed_run_needs_each_kind_of_care(tmp_path: Path) -> None:
    """Without one of them it would be another run, as the test above would say."""
    prepare(tmp_path)

    def run(folder: str, ckpt_path: Path | None = None) -> dict[str, Any]:
        callbacks = [*care(), *saving(tmp_path / folder)]
        return fit(tmp_path, "documents", PseudoEnsembleCallback, *callbacks, ckpt_path=ckpt_path)

    whole, path = run("whole"), tmp_path / "whole" / f"{PLACES['inside an epoch']}.ckpt"
    assert difference(whole, run("again", path)) == []
    for name, (part, break_it) in CARE.items():
        with pytest.MonkeyPatch.context() as monkeypatch:
            break_it(monkeypatch)
            assert difference(whole[part], run("again", path)[part]), name


def adversarial(task: str, root: Path, ckpt_path: Path | None = None, **trainer: Any) -> dict[str, Any]:
    folder = root / ("whole" if ckpt_path is None else "again")
    return fit(root, task, AdversarialDropoutCallback, *care(), *saving(folder), ckpt_path=ckpt_path, **trainer)


LIMITS: dict[str, dict[str, Any]] = {
    "a number of steps": {"max_epochs": -1, "max_steps": 12},
    "validation within the epoch": {"val_check_interval": 2},
    "accumulated gradients": {"accumulate_grad_batches": 3, "limit_train_batches": 8},
    "a limit of time": {"max_time": {"hours": 1}},
}


@pytest.mark.parametrize(
    ("task", "limit"),
    [
        ("images", "validation within the epoch"),
        ("images", "accumulated gradients"),
        ("documents", "a number of steps"),
        ("documents", "validation within the epoch"),
        ("language", "accumulated gradients"),
        ("language", "a limit of time"),
    ],
)
def test_trainers_with_other_limits_are_resumed_to_the_bit(task: str, limit: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    whole = adversarial(task, tmp_path, **LIMITS[limit])
    steps = {file: torch.load(file, weights_only=True)["global_step"] for file in (tmp_path / "whole").iterdir()}
    within = [file for file, step in steps.items() if step < max(steps.values())]
    assert within
    for file in within:
        resumed = adversarial(task, tmp_path, file, **LIMITS[limit])
        assert difference(whole, resumed) == [], file.stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", True),
        ("train_acc", True),
        ("value_loss", True),
        ("metrics.testament", True),
        ("val_acc", False),
        ("val2_acc", False),
        ("valid_acc", False),
        ("metrics.val.f1", False),
        ("metrics.test/f1", False),
        ("my_test", False),
    ],
)
def test_which_metrics_are_of_training(name: str, expected: bool) -> None:
    """What is logged decides, and else the name."""
    metric = MeanMetric()
    assert not is_of_training(name, metric, {id(metric): True})
    metric.update(1.0)
    assert is_of_training(name, metric, {}) is expected
    assert is_of_training(name, metric, {id(metric): True})
    assert not is_of_training(name, metric, {id(metric): False})

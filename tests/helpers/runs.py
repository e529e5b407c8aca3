"""Run folders as training leaves them, written by Lightning's own CSVLogger."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import CSVLogger

ADVERSARIAL = "lightning_advdrop.AdversarialDropoutCallback"
FRATERNAL = "lightning_advdrop.FraternalDropoutCallback"
_START = 1_700_000_000


def regularizer(class_path: str = ADVERSARIAL, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": {"sites": "recurrent", "weight": 1.0, **init_args}}


def make_run(
    folder: Path,
    seed: int | bool | None = 0,
    regularizer: Any = None,
    *,
    test: float | None = 0.9,
    val: Sequence[float] = (0.5, 0.7),
    minutes: float = 2.0,
    modified: float = 0.0,
    **config: Any,
) -> Path:
    """Write what a fit and a test leave in ``<experiment>/version_<n>``.

    Args:
        folder: The run's folder, which must be new.
        seed: ``seed_everything`` of the config.
        regularizer: Of the config.
        test: Accuracy on the test data; ``None`` where no test was made.
        val: Validation accuracy of each epoch.
        minutes: From the writing of the config to the last value.
        modified: When the last value was written, in seconds after a fixed time.
        config: Further parts of the config.
    """
    logger = CSVLogger(folder.parent.parent, name=folder.parent.name, version=folder.name)
    step = 0
    for epoch, accuracy in enumerate(val):
        logger.log_metrics({"train/loss": 1 - accuracy, "train/penalty": 0.01, "epoch": epoch}, step)
        step += 10
        logger.log_metrics({"val/loss": 1.1 - accuracy, "val/accuracy": accuracy, "epoch": epoch}, step - 1)
        logger.save()
    if test is not None:
        logger.log_metrics({"test/loss": 1.2 - test, "test/accuracy": test, "epoch": len(val)}, step)
    logger.save()
    content = {"seed_everything": seed, "trainer": {"max_epochs": len(val), "callbacks": None}, "model": {}, "data": {}}
    content |= {"regularizer": regularizer, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    ended = _START + modified
    os.utime(folder / "config.yaml", (ended - 60 * minutes, ended - 60 * minutes))
    os.utime(folder / "metrics.csv", (ended, ended))
    return folder


def make_runs(
    experiment: Path, tests: Sequence[float | None], regularizer: Any = None, first: int = 0, **arguments: Any
) -> list[Path]:
    """Write a run for each test accuracy, with the seeds 0, 1, ...; their versions start at ``first``."""
    return [
        make_run(experiment / f"version_{first + seed}", seed, regularizer, test=test, **arguments)
        for seed, test in enumerate(tests)
    ]

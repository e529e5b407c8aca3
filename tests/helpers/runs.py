"""Run folders as training leaves them, written by Lightning's own CSVLogger."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import CSVLogger

ADVERSARIAL = "lightning_advdrop.AdversarialDropoutCallback"
FRATERNAL = "lightning_advdrop.FraternalDropoutCallback"
GAP_MULTIPLES = {"adversarial": 3.0, "random_max": 2.0, "mean_prediction": 0.5}
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
    gap: Sequence[float] = (),
    multiples: Mapping[str, float] = GAP_MULTIPLES,
    name: str = "accuracy",
    **config: Any,
) -> Path:
    """Write what a fit and a test leave in ``<experiment>/version_<n>``.

    Args:
        folder: The run's folder, which must be new.
        seed: ``seed_everything`` of the config.
        regularizer: Of the config.
        test: The metric on the test data; ``None`` where no test was made.
        val: The metric on the validation data of each epoch.
        minutes: From the writing of the config to the last value.
        modified: When the last value was written, in seconds after a fixed time.
        gap: Mean over random masks of each epoch; the other values are multiples of it.
        multiples: By name, of the values beside ``gap/random``.
        name: Of the metric; losses are those of an accuracy.
        config: Further parts of the config.
    """
    logger = CSVLogger(folder.parent.parent, name=folder.parent.name, version=folder.name)
    step = 0
    for epoch, value in enumerate(val):
        logger.log_metrics({"train/loss": 1 - value, "train/penalty": 0.01, "epoch": epoch}, step)
        step += 10
        values = {"val/loss": 1.1 - value, f"val/{name}": value}
        if gap:
            values |= {f"gap/{other}": times * gap[epoch] for other, times in {"random": 1, **multiples}.items()}
        logger.log_metrics({**values, "epoch": epoch}, step - 1)
        logger.save()
    if test is not None:
        logger.log_metrics({"test/loss": 1.2 - test, f"test/{name}": test, "epoch": len(val)}, step)
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
    """Write a run for each value of the test metric, with the seeds 0, 1, ...; their versions start at ``first``."""
    return [
        make_run(experiment / f"version_{first + seed}", seed, regularizer, test=test, **arguments)
        for seed, test in enumerate(tests)
    ]


def write_masks(folder: Path, *sites: Sequence[Sequence[float]]) -> None:
    """Write the file of mask statistics: the shares of each site, by epoch and unit."""
    lines = ["epoch,site,unit,units,share"]
    for number, epochs in enumerate(sites):
        for epoch, shares in enumerate(epochs):
            lines += [f"{epoch},lstm.l{number}:recurrent,{unit},1,{share}" for unit, share in enumerate(shares)]
    (folder / "masks.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

"""Tune from Python, and from what a command makes."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.seed import isolate_rng

from lightning_advdrop.tuning.describing import describe
from lightning_advdrop.tuning.errors import TuneError
from lightning_advdrop.tuning.methods import Method, find_methods
from lightning_advdrop.tuning.results import Result
from lightning_advdrop.tuning.searching import quiet, search
from lightning_advdrop.tuning.settings import Experiment, Parts, Settings, parse_duration
from lightning_advdrop.tuning.writing import write_results

DEFAULT_METHODS = ("adversarial_dropout", "r_drop", "variational_dropout", "none")
_OWN = ("logger", "callbacks", "enable_progress_bar", "enable_model_summary")


@dataclass(frozen=True)
class Objects:
    """An experiment of objects in Python.

    Args:
        model: a module, of which each run trains a copy; or a callable that makes one, after the run's seed was set.
        data: a data module, or a mapping of loaders by ``train``, ``val`` and ``test``, of which each run gets a copy;
            or a callable that makes one; or None where the module has loaders of its own.
        trainer: arguments of the trainer; ``callbacks`` may be a callable that makes a list of them.
    """

    model: LightningModule | Callable[[], LightningModule]
    data: Any = None
    trainer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """Model, data and the trainer's arguments, see `describe`."""
        return "\n".join(f"{name}: {describe(getattr(self, name))}" for name in ("model", "data", "trainer"))

    def build(self, method: Method, values: dict[str, Any], seed: int, folder: Path) -> Parts:
        """Make new objects, from a seed."""
        seed_everything(seed, workers=True, verbose=False)
        model = copy.deepcopy(self.model) if isinstance(self.model, LightningModule) else self.model()
        ready = isinstance(self.data, (LightningDataModule, Mapping)) or self.data is None
        data = copy.deepcopy(self.data) if ready else self.data()
        given = {name: value if callable(value) else copy.deepcopy(value) for name, value in self.trainer.items()}
        callbacks = [*_made(given.pop("callbacks", None)), *method.callbacks(values)]
        logger = CSVLogger(folder, name="", version="")
        return Parts(model, data, Trainer(**given, logger=logger, callbacks=callbacks))

    def config(self, method: Method, values: dict[str, Any]) -> str:
        """Return the regularizer in YAML."""
        return yaml.safe_dump({"regularizer": method.with_values(values)}, sort_keys=False)


def _made(callbacks: Any) -> list[Callback]:
    """Callbacks of a run's own, of what `Trainer` takes, or of a callable."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback):
        return [callbacks]
    return [*(callbacks() if callable(callbacks) else callbacks)]


def tune(
    model: LightningModule | Callable[[], LightningModule],
    data: Any = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    metric: str = "val/loss",
    mode: Literal["min", "max"] | None = None,
    trials: int = 20,
    seeds: int = 5,
    jobs: int = 1,
    budget: str | float | None = None,
    output: str | Path = "tune",
    trainer: Mapping[str, Any] | None = None,
    spaces: Mapping[str, Any] | None = None,
    **more: Any,
) -> Result:
    """Find out which method pays for a model and its data.

    Each method is searched with the same number of runs, by the validation metric. The values that are found are then
    run with fresh seeds, and tested. The same call goes on with a search that was interrupted; another model, data of
    another class or other arguments of the trainer need another `output`.

    Args:
        model: a module, of which each run trains a copy, from the same weights; or, so that the seeds tell the weights,
            too, a callable that makes one.
        data: a data module, or a mapping of loaders by ``train``, ``val`` and ``test``; a callable that makes one; or
            None where the module has loaders of its own.
        methods: names of overlays of ``configs/methods``, or paths of such files.
        metric: what is compared, as the validation logs it.
        mode: ``min`` or ``max``; None for what the name of `metric` tells.
        trials: runs of each method's search, at least 1.
        seeds: runs of each method with the values that were found, at least 1.
        jobs: processes of one thread each; with several, `model` and `data` must be picklable.
        budget: seconds, or a duration such as ``"2h"``, after which no run begins; None for as long as it takes.
        output: the folder of all results.
        trainer: arguments of the trainer, such as ``max_epochs``; ``callbacks`` may be a callable that makes them.
        spaces: search spaces by method, whose entries replace those that come with the method.
        more: `Settings`' further arguments: ``seed``, ``prune``, ``test_metric``, ``test_mode``, ``storage``.

    Raises:
        ValueError: if an argument is outside what is allowed, or no run could succeed.
        MissingExtraError: if Optuna is not installed.

    Example:
        >>> tune(LightningModule, methods=["r_dorp"])
        Traceback (most recent call last):
        ...
        lightning_advdrop.tuning.errors.TuneError: methods must name overlays of configs/methods or be YAML files, got \
'r_dorp'; did you mean 'r_drop'?
    """
    given = dict(trainer or {})
    for name in _OWN:
        if name in given and name != "callbacks":
            raise TuneError(f"trainer must not have {name}, which each run sets, got {given[name]!r}.")
    if isinstance(methods, str):
        raise TuneError(f"methods must be a sequence of names, got {methods!r}.")
    if not (data is None or callable(data) or isinstance(data, (LightningDataModule, Mapping))):
        raise TuneError(
            "data must be a data module, a mapping of loaders by 'train', 'val' and 'test', a callable that makes one, "
            f"or None, got {data!r}."
        )
    settings = Settings(
        methods=find_methods(methods, spaces or {}),
        metric=metric,
        mode=mode,
        trials=trials,
        seeds=seeds,
        jobs=jobs,
        budget=parse_duration(budget) if isinstance(budget, str) else budget,
        output=Path(output),
        **more,
    )
    experiment = Objects(model, data, given)
    if jobs > 1:
        try:
            pickle.dumps(experiment)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TuneError(f"model, data and trainer must be picklable for jobs={jobs}, got {error}.") from error
    return run_search(settings, experiment)


@contextmanager
def _environment() -> Iterator[None]:
    """Leave the variables as they are by which seeds are handed to workers of loaders."""
    before = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_search(settings: Settings, experiment: Experiment) -> Result:
    """Make the runs of a search, and write what they show.

    Args:
        settings: of the search.
        experiment: makes the objects of each run.
    """
    with quiet(), isolate_rng(), _environment():
        return write_results(search(settings, experiment), experiment)

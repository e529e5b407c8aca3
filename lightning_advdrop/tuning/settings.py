"""What a search is told: checked once, and handed to every process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from lightning.pytorch import LightningModule, Trainer

from lightning_advdrop._ranges import check_range
from lightning_advdrop.metric_names import better
from lightning_advdrop.tuning.errors import TuneError
from lightning_advdrop.tuning.methods import Method

Mode = Literal["min", "max"]

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
STORE_FILE = "tune.db"
# What these mean in the URL of an SQLite file can't be quoted.
_NOT_IN_URLS = "?{}"


@dataclass(frozen=True)
class Settings:
    """The arguments of a search.

    Args:
        methods: what is compared, see `find_methods`.
        metric: what is compared, as the validation logs it.
        mode: ``min`` or ``max``; None for what the name of `metric` tells.
        trials: runs of each method's search, at least 1.
        seeds: runs of each method with the values that were found, each with a fresh seed; at least 1.
        jobs: processes, at least 1.
        budget: seconds after which no run begins; None for as long as it takes.
        seed: of the runs of the search; the fresh seeds are those that follow it.
        prune: whether a run of the search is given up when it is behind the median of its method's in the second half
            of its training.
        test_metric: what the test logs; None for `metric` with ``test`` in the place of ``val``.
        test_mode: which values of it are better; None for those of the validation, where it is the same metric, and for
            what its name tells with another one.
        output: the folder of all results.
        storage: URL of Optuna's storage; None for a SQLite file in `output`.

    Raises:
        ValueError: if one is out of its range, or nothing tells which values of a metric are better.
    """

    methods: tuple[Method, ...]
    metric: str = "val/loss"
    mode: Mode | None = None
    trials: int = 20
    seeds: int = 5
    jobs: int = 1
    budget: float | None = None
    seed: int = 0
    prune: bool = True
    test_metric: str | None = None
    test_mode: Mode | None = None
    output: Path = Path("tune")
    storage: str | None = None

    def __post_init__(self) -> None:
        check_range("at least 1", trials=self.trials, seeds=self.seeds, jobs=self.jobs)
        check_range("above 0 or None", budget=self.budget)
        check_range("at least 0", seed=self.seed)
        modes = ("mode", self.validated_mode, self.metric), ("test_mode", self.tested_mode, self.tested)
        for name, mode, metric in modes:
            if mode not in get_args(Mode):
                untold = (
                    "" if mode else f", since the name of the metric {metric!r} doesn't tell which values are better"
                )
                raise TuneError(f"{name} must be 'min' or 'max'{untold}, got {mode!r}.")
        if self.output.exists() and not self.output.is_dir():
            raise TuneError(f"output must be a folder, got the file {str(self.output)!r}.")
        if self.storage is None and set(str(self.output.absolute())) & set(_NOT_IN_URLS):
            told = f"output must have none of {' '.join(_NOT_IN_URLS)} in its path, where the database is"
            raise TuneError(f"{told}, got {str(self.output.absolute())!r}; name another folder.")

    @property
    def url(self) -> str:
        """The URL of Optuna's storage."""
        return self.storage or f"sqlite:///{(self.output / STORE_FILE).absolute()}"

    @property
    def validated_mode(self) -> Mode | None:
        """Which values of `metric` are better; None, which is refused, where neither an argument nor the name tells."""
        return self.mode or better(self.metric)

    @property
    def fresh_seeds(self) -> list[int]:
        """The seeds of the runs with the values that were found."""
        return [self.seed + number for number in range(1, self.seeds + 1)]

    @property
    def tested(self) -> str:
        """The name of the metric on the test data."""
        return self.test_metric or self._as_tested

    @property
    def _as_tested(self) -> str:
        return re.sub(r"\bval(id|idation)?(?=[/_]|$)", "test", self.metric)

    @property
    def tested_mode(self) -> Mode | None:
        """Which values of that are better; None, which is refused, where neither an argument nor the name tells."""
        return self.test_mode or (self.validated_mode if self.tested == self._as_tested else better(self.tested))

    def identity(self, experiment: str) -> dict[str, str]:
        """Return what must not change when a search goes on, whatever its methods.

        Args:
            experiment: the experiment's own description.
        """
        return {
            "experiment": experiment,
            "metric": self.metric,
            "mode": str(self.validated_mode),
            "seed": str(self.seed),
        }


@dataclass
class Parts:
    """The objects of one run.

    Args:
        model: the module.
        data: a data module; a mapping of loaders by ``train``, ``val`` and ``test``; or None where the module has them.
        trainer: with the method's callbacks.
    """

    model: LightningModule
    data: Any
    trainer: Trainer


class Experiment(Protocol):
    """Makes the objects of each run. It is pickled where there are several processes."""

    @property
    def description(self) -> str:
        """What tells experiments apart."""

    def build(self, method: Method, values: dict[str, Any], seed: int, folder: Path) -> Parts:
        """Make new objects, from a seed, whose trainer logs into a folder."""

    def config(self, method: Method, values: dict[str, Any]) -> str:
        """Return a configuration of a method with its values, in YAML."""


def parse_duration(text: str) -> float:
    """Return the seconds of a duration.

    Args:
        text: numbers with the units h, m and s, the longest first; a number alone is in seconds.

    Raises:
        ValueError: if it is something else.

    Example:
        >>> parse_duration("1h30m"), parse_duration("90")
        (5400.0, 90.0)
    """
    number = r"\d+(?:\.\d+)?"
    found = re.fullmatch(rf"(?:({number})h)?(?:({number})m)?(?:({number})s?)?", text.strip())
    amounts: Sequence[str | None] = () if found is None else found.groups()
    if not any(amounts):
        raise ValueError(f"budget must be a duration such as 2h, 90m or 1h30m, got {text!r}.")
    return sum(float(amount) * unit for amount, unit in zip(amounts, _UNITS.values(), strict=True) if amount)

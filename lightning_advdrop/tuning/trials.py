"""Trials of Optuna: which count, which wait, which were lost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from lightning_advdrop.tuning import database

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

STARTED, ERROR = "started", "error"


def counts(trial: FrozenTrial, again: int = 0) -> bool:
    """Whether a trial is there; of those that failed, the ones before a number are made again."""
    from optuna.trial import TrialState

    if trial.state == TrialState.FAIL:
        return ERROR in trial.user_attrs and trial.number >= again
    return trial.state != TrialState.WAITING


def waits(trial: FrozenTrial) -> bool:
    """Whether a trial is in the queue."""
    from optuna.trial import TrialState

    return trial.state == TrialState.WAITING


def fail_stale(study: Study) -> None:
    """Record the trials as failed whose process was killed, and put them into the queue again."""
    import optuna
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    # A process that was killed before its first sign of life is not among these.
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if trial.user_attrs.get(STARTED) != trial.number and _age(trial.datetime_start) > database.GRACE:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _age(start: datetime | None) -> float:
    return 0.0 if start is None else time.time() - start.timestamp()


def errors(trials: Iterable[FrozenTrial]) -> list[str]:
    """Return the errors of the trials that failed."""
    return [str(each.user_attrs[ERROR]) for each in trials if ERROR in each.user_attrs]

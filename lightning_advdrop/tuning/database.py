"""Optuna's storage: an SQLite file for one machine, a database server for several."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

from lightning_advdrop.tuning.errors import TuneError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

HEARTBEAT, GRACE = 10, 60
"""Seconds between a running process's signs of life, and after which it counts as dead without one."""
_RETRIES = 3
# Of opening, and the seconds in between.
_ATTEMPTS, _PAUSE = 3, 0.5
_LONGEST = 200


def open_database(url: str) -> RDBStorage:
    """Open a database, and make Optuna's tables in it if it has none.

    Args:
        url: as SQLAlchemy reads it.

    Raises:
        TuneError: if it can't be opened.
    """
    failures = 0
    while True:
        try:
            return _open(url)
        except Exception as error:  # whatever the driver of this kind of database raises
            failures += 1
            if failures == _ATTEMPTS or not _may_pass(error):
                told = " ".join(str(error).split())[:_LONGEST]
                got = without_password(url)
                raise TuneError(f"storage must be a database that Optuna can open, got {got!r} ({told}).") from error
        time.sleep(_PAUSE)


def _may_pass(error: Exception) -> bool:
    # Of several processes that make the tables of a new database at once, a server refuses all but one.
    from sqlalchemy.exc import DBAPIError

    return isinstance(error, DBAPIError)


def without_password(url: str) -> str:
    """Return the URL of a database as it may be shown; a text that is none as it is."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _open(url: str) -> RDBStorage:
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

    # In a file one process waits for the other's writing; a server may have ended a connection during a long run.
    file = url.startswith("sqlite")
    options = {"connect_args": {"timeout": 60}} if file else {"pool_pre_ping": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES),
        )

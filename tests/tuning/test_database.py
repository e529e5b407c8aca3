from __future__ import annotations

from typing import Any

import pytest
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError

from lightning_advdrop.tuning import TuneError, database, tune
from tests.helpers.messages import refused
from tests.helpers.tuned import Tagger


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PAUSE", 0.0)


def failing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """Have a database refuse to make its tables, as a server does for all processes but the first."""
    opened: list[str] = []
    inner = RDBStorage.__init__

    def refusing(self: RDBStorage, url: str, *arguments: Any, **more: Any) -> None:
        opened.append(url)
        if len(opened) <= times:
            raise IntegrityError("CREATE TYPE", {}, Exception("already exists"))
        inner(self, url, *arguments, **more)

    monkeypatch.setattr(RDBStorage, "__init__", refusing)
    return opened


def test_tables_that_another_process_makes_at_the_same_time_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = failing(monkeypatch, 2)
    assert isinstance(database.open_database("sqlite://"), RDBStorage)
    assert len(opened) == 3


def test_a_database_that_refuses_again_and_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = failing(monkeypatch, 9)
    with refused("storage", "'sqlite://'", "already exists", error=TuneError):
        database.open_database("sqlite://")
    assert len(opened) == 3


def test_a_storage_that_cannot_be_opened_is_refused() -> None:
    with refused("storage", "'nonsense://x'", error=TuneError):
        tune(Tagger, methods=["none"], storage="nonsense://x")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nonsense://me:secret@host/name", "nonsense://me:***@host/name"),
        ("nonsense://host/name", "nonsense://host/name"),
        ("tune.db", "tune.db"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert database.without_password(url) == shown
    with refused("storage", f"{shown!r}", error=TuneError):
        database.open_database(url)


def test_connections_that_a_server_has_ended_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(RDBStorage, "__init__", lambda self, url, engine_kwargs, **more: given.append(engine_kwargs))
    database.open_database("postgresql+psycopg2://host/name")
    assert given == [{"pool_pre_ping": True}]

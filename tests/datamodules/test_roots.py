from pathlib import Path

import pytest

from lightning_advdrop.datamodules.roots import data_root
from tests.helpers.messages import refused


def test_argument_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", "from-environment")
    assert data_root("given") == Path("given")
    assert data_root(Path("given")) == Path("given")


def test_environment_comes_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", "from-environment")
    assert data_root(None) == Path("from-environment")


@pytest.mark.parametrize("value", [None, ""])
def test_default_comes_last(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("LIGHTNING_ADVDROP_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", value)
    assert data_root() == Path("data")


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root("~/sets") == tmp_path / "sets"
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", "~/others")
    assert data_root() == tmp_path / "others"


def test_empty_argument_is_refused() -> None:
    with refused("root", None, "''"):
        data_root("")

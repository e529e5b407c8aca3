"""Data modules are tested without the user's folders and proxies."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("LIGHTNING_ADVDROP_DATA", raising=False)
    monkeypatch.setenv("LIGHTNING_ADVDROP_CACHE", str(tmp_path / "cache"))

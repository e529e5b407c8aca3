"""The command `lightning` beside those of other packages, whichever was installed last."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_advdrop.cli import main
from lightning_advdrop.cli.programs import lost_command, other_commands, tell_once
from tests.helpers.wheels import Prefix, build, with_a_lightning_command

VERSION = "lightning-advdrop 0.1.0\n"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.mark.parametrize("other", ["lightning_sdk", "litserve"])
def test_installed_after_the_other_ours_hands_its_commands_on(ours: Path, other: str, tmp_path: Path) -> None:
    prefix = Prefix(tmp_path)
    prefix.install(with_a_lightning_command(tmp_path, other), ours)
    assert prefix.run("lightning", "--version").stdout == VERSION
    handed = prefix.run("lightning", "deploy", "it", "--now")
    assert (handed.stdout, handed.returncode) == (f"{other} got deploy it --now\n", 3)
    advdrop = prefix.run("advdrop", "--version")
    assert (advdrop.stdout, advdrop.stderr) == (VERSION, "")


@pytest.mark.parametrize("other", ["lightning_sdk", "litserve"])
def test_installed_before_the_other_ours_says_so(ours: Path, other: str, tmp_path: Path) -> None:
    prefix = Prefix(tmp_path)
    prefix.install(ours, with_a_lightning_command(tmp_path, other))
    assert prefix.run("lightning", "fit").stdout == f"{other} got fit\n"
    advdrop = prefix.run("advdrop", "--version")
    assert advdrop.stdout == VERSION
    (said,) = advdrop.stderr.splitlines()
    for part in (f"`lightning` is that of {other.replace('_', '-')}", "use `advdrop`", "reinstall lightning-advdrop"):
        assert part in said
    (prefix.scripts / "lightning").unlink()  # as when the other is uninstalled
    (said,) = prefix.run("advdrop", "--version").stderr.splitlines()
    assert "`lightning` is gone" in said


def _entry_points(*names: str, called: list[list[str]]) -> Any:
    def entry(name: str) -> Any:
        dist = SimpleNamespace(name=name)
        return SimpleNamespace(dist=dist, module="m", load=lambda: lambda: called.append([name, *sys.argv]))

    return lambda **_: [*map(entry, names), SimpleNamespace(dist=None)]


def test_of_several_lightning_sdk_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    found = _entry_points("lightning-advdrop", "lightning", "LitServe", "lightning_sdk", called=called)
    monkeypatch.setattr("importlib.metadata.entry_points", found)
    monkeypatch.setattr(sys, "argv", ["lightning"])
    assert [each.dist.name for each in other_commands() if each.dist] == ["lightning_sdk", "LitServe", "lightning"]
    assert main(["login", "now"], "lightning") == 0
    assert called == [["lightning_sdk", "lightning", "login", "now"]]


def test_it_is_said_once_in_all_processes_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LIGHTNING_ADVDROP_TOLD", raising=False)
    script = tmp_path / "advdrop"
    script.write_text("from lightning_advdrop.cli import entry_point")
    (tmp_path / "lightning").write_text("from elsewhere import main")
    for _ in range(2):
        tell_once(script)
    monkeypatch.delenv("LIGHTNING_ADVDROP_TOLD")
    assert capsys.readouterr().err.count("Note: The command `lightning` is that of another package; use `advdrop`") == 1
    (tmp_path / "lightning").write_text("from lightning_advdrop.cli import entry_point")
    assert lost_command(script) is None

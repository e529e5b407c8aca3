"""Prepared data are made once, are whole or absent, and survive processes that are killed or start together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_advdrop.datamodules.cache import cached
from lightning_advdrop.datamodules.roots import CACHE_VARIABLE, cache_root
from tests.helpers.messages import refused

ROOT = Path(__file__).resolve().parents[2]


def write_numbers(folder: Path) -> None:
    (folder / "numbers.txt").write_text("1 2 3")


def test_it_builds_once(tmp_path: Path) -> None:
    first = cached({"a": 1, "b": [2]}, write_numbers, folder=tmp_path)
    again = cached({"b": [2], "a": 1}, lambda _: pytest.fail("built again"), folder=tmp_path)
    assert first == again
    assert (first / "numbers.txt").read_text() == "1 2 3"
    assert (first / "settings.json").read_text() == '{"a": 1, "b": [2]}'


def test_other_settings_are_another_folder(tmp_path: Path) -> None:
    assert cached({"a": 1}, write_numbers, folder=tmp_path) != cached({"a": 2}, write_numbers, folder=tmp_path)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write_numbers(folder)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        cached({"a": 1}, fail, folder=tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])
    assert cached({"a": 1}, write_numbers, folder=tmp_path).is_dir()


_CHILD = """
import sys, time
from pathlib import Path
from lightning_advdrop.datamodules.cache import cached

def build(folder):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    (folder / "numbers.txt").write_text("1")
    time.sleep(float(sys.argv[3]))

print(cached({"a": 1}, build, folder=sys.argv[1]))
"""


def start(folder: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CHILD, str(folder), str(log), str(seconds)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_two_processes_build_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    children = [start(folder, log, 1.0) for _ in range(2)]
    found = {child.communicate(timeout=120)[0] for child in children}
    assert len(found) == 1
    assert log.read_text() == "built\n"


def test_a_killed_process_leaves_nothing_that_counts(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    with start(folder, log, 600.0) as child:
        while not list(folder.glob(".*/numbers.txt")):
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    found = cached({"a": 1}, write_numbers, folder=folder)
    assert (found / "numbers.txt").read_text() == "1 2 3"
    assert {path.name for path in folder.iterdir()} == {found.name, f"{found.name}.lock"}


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert "lightning_advdrop" in cache_root().as_posix()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_root() == tmp_path
    assert cache_root("here") == Path("here")
    with refused("folder", None, "''"):
        cache_root("")

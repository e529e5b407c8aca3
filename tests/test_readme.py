"""The README's Python runs, and the configurations, targets and pages that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_docs import blocks, run_blocks

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_python_runs() -> None:
    assert blocks(README, "python")
    run_blocks(README)


def test_every_configuration_is_listed() -> None:
    rows = re.findall(r"^\| (`configs/[^|]*)\|", TEXT, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(configs/\w+\.yaml)`", row)}
    assert listed == {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", TEXT))
    assert {"test", "demo"} <= named <= targets


def test_the_files_exist() -> None:
    named = re.findall(r"`((?:docs|configs)/[\w/]+\.\w+|[A-Z]+(?:\.cff)?)`", TEXT)
    files = [name for name in named if "/" in name or (ROOT / name).suffix or name == "LICENSE"]
    assert files
    assert all((ROOT / name).is_file() for name in files)

"""The package as a whole: the order of its rooms, its version, and what it exports."""

from __future__ import annotations

import builtins
import importlib
import pkgutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import FunctionType

import lightning
import pytest
import torch

import lightning_advdrop
from tests.helpers.wheels import Prefix, build

ROOT = Path(__file__).parent.parent


def test_rooms_import_only_from_those_below() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    result = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("room", ["", ".functional", ".nn", ".masking", ".regularizers", ".callbacks", ".tasks"])
def test_what_is_exported_exists_and_is_documented(room: str) -> None:
    module = importlib.import_module(f"lightning_advdrop{room}")
    for name in module.__all__:
        exported = getattr(module, name)
        if isinstance(exported, (type, FunctionType)):
            assert exported.__doc__, f"{module.__name__}.{name} has no docstring"


def test_a_star_import_replaces_no_common_name() -> None:
    """``from lightning_advdrop import *`` behind the usual imports of a training script."""
    code = (
        "import torch, lightning as L, torch.nn.functional as F; from torch import nn, optim, utils; "
        "from torch.nn import functional; from torch.utils import data; __version__ = 'mine'; "
        "callbacks = datamodules = masking = regularizers = tasks = 0; before = dict(globals()); "
        "from lightning_advdrop import *; assert all(globals()[name] is before[name] for name in before); "
        "assert RDropCallback; from lightning_advdrop import nn, functional, __version__; "
        "assert nn.MaskedLSTM and functional.kl_divergence and __version__ != 'mine'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("room", ["", *(f".{room.name}" for room in pkgutil.iter_modules(lightning_advdrop.__path__))])
def test_what_is_exported_has_no_common_name(room: str) -> None:
    module = importlib.import_module(f"lightning_advdrop{room}")
    common = {*dir(builtins), *dir(torch), *dir(torch.nn), *dir(lightning), *dir(torch.utils.data), "F", "data"}
    assert not {*getattr(module, "__all__", ())} & common


def test_every_module_is_tested_somewhere() -> None:
    """A new module without a test file of its room is an oversight."""
    rooms = {m.name for m in pkgutil.iter_modules(lightning_advdrop.__path__) if m.ispkg}
    assert all(list((ROOT / "tests" / room).glob("test_*.py")) for room in rooms)


def test_the_version_is_that_of_the_citation_and_changelog() -> None:
    version = lightning_advdrop.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert "## [" in (ROOT / "CHANGELOG.md").read_text()


def test_rooms_are_imported_when_they_are_used() -> None:
    code = (
        "import pickle, sys; import lightning_advdrop as a; from lightning_advdrop.cli import main; "
        "main(['--version']); assert not {'torch', 'lightning'} & sys.modules.keys(); "
        "assert {*a.__all__} <= {*dir(a)}; "
        "assert a.tasks.BaseTask; from lightning_advdrop import *; assert a.RDropCallback is RDropCallback; "
        "assert pickle.loads(pickle.dumps(RDropCallback)) is RDropCallback; assert not hasattr(a, 'absent')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    """Trains and compares two methods there, with configurations that are found by name."""
    prefix, elsewhere = Prefix(tmp_path / "installed"), tmp_path / "elsewhere"
    prefix.install(build(tmp_path))
    elsewhere.mkdir()
    assert (prefix.modules / "lightning_advdrop" / "py.typed").exists()
    assert "smnist_rows" in prefix.run("advdrop", "configs", "list", cwd=elsewhere).stdout
    few = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.enable_progress_bar", "false")
    for method in ((), ("--config", "methods/r_drop")):
        fit = prefix.run("lightning", "fit", "--config", "quickstart", *method, *few, cwd=elsewhere)
        assert fit.returncode == 0, fit.stderr
    report = prefix.run("advdrop", "report", "runs", cwd=elsewhere)
    assert "adversarial dropout" in report.stdout
    assert "R-Drop" in report.stdout
    code = "import lightning_advdrop.cli; print(lightning_advdrop.cli.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(prefix.modules)},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(prefix.modules))


def test_the_source_distribution_holds_what_the_wheel_and_the_tests_need(tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path, "sdist")) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {
        str(path.relative_to(ROOT))
        for folder in ("lightning_advdrop", "tests", "configs", "docs", ".github")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "_build", "gallery"} & {*path.parts}
    }
    beside = {"README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", ".ci/run"}
    assert tracked | beside <= held

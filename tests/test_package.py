"""The package as a whole: the order of its rooms, its version, and what it exports."""

from __future__ import annotations

import builtins
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import lightning
import pytest
import torch

import lightning_advdrop

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
    """Builds the wheel, unpacks it elsewhere and runs the command from there."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    inside = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(inside)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    assert (inside / "lightning_advdrop" / "py.typed").exists()
    code = (
        "import lightning_advdrop as a; print(a.__file__); from lightning_advdrop.cli import main; main(['--version'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=inside, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"}
    )
    assert result.stdout.startswith(str(inside.resolve()))
    assert "lightning-advdrop" in result.stdout

"""What a part says whose extra is not installed, and what is imported without any."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from lightning.pytorch import LightningModule, Trainer

from lightning_advdrop import DigitsDataModule, MaskStatistics
from lightning_advdrop._extras import EXTRAS, MissingExtraError, needed
from lightning_advdrop.datamodules import Vocabulary
from lightning_advdrop.datamodules.downloads import download
from lightning_advdrop.datamodules.roots import cache_root
from lightning_advdrop.drawing import as_png, panel_grid
from lightning_advdrop.report import find_runs, group_runs, load_run, summarize
from lightning_advdrop.tuning import tune
from tests.environments import needed as needed_packages
from tests.environments import project
from tests.helpers.messages import refused
from tests.helpers.runs import make_runs, regularizer

ROOT = Path(__file__).parent.parent
#: Of modules that are not called like their distribution.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "PyYAML"}
HEAVY = {module for modules in EXTRAS.values() for module in modules}


def without(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Lets imports of a module and of what is below it fail, as if it were not installed."""
    for name in {module, *(each for each in sys.modules if each.partition(".")[0] == module)}:
        monkeypatch.setitem(sys.modules, name, None)


def named(module: str) -> str:
    """What is named where a module is missing: in an environment without its extra, what is imported before it."""
    before = {"requests": "pooch", "jsonargparse": "wandb"}.get(module)
    return module if before is None or find_spec(before) is not None else before


def _watched() -> None:
    MaskStatistics().on_fit_start(Trainer(logger=False, enable_checkpointing=False), LightningModule())


def _summary() -> object:
    make_runs(Path("digits"), [0.1, 0.3])
    make_runs(Path("digits"), [0.2, 0.5], regularizer(), first=2)
    return summarize(group_runs([load_run(folder) for folder in find_runs([Path("digits")])])[0], "test/accuracy")


@pytest.mark.parametrize(
    ("module", "extra", "does", "said"),
    [
        ("torchtext", "text", lambda: Vocabulary.build(Counter("ab")), "Building a vocabulary"),
        ("pooch", "data", lambda: download(Path("labels.gz"), ["https://a.org"], None), "Downloading labels.gz"),
        ("requests", "data", lambda: download(Path("labels.gz"), ["https://a.org"], None), "Downloading labels.gz"),
        ("platformdirs", "data", cache_root, "LIGHTNING_ADVDROP_CACHE"),
        ("matplotlib", "report", lambda: as_png(lambda: panel_grid(1)[0]), "figures"),
        (
            "matplotlib",
            "report",
            _watched,
            "MaskStatistics",
        ),
        ("scipy", "report", _summary, "test of a report"),
        ("optuna", "tune", lambda: tune(LightningModule, methods=["none"]), "Tuning"),
        ("sklearn", "examples", lambda: DigitsDataModule().load_test(), "DigitsDataModule"),
    ],
)
def test_what_is_missing_is_named_with_what_to_install(
    module: str, extra: str, does: Callable[[], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = named(module)
    without(monkeypatch, module)
    # It is to be imported anew, as in an environment that lacks what it needs.
    monkeypatch.delitem(sys.modules, "lightning_advdrop.datamodules.fetching", raising=False)
    monkeypatch.delenv("LIGHTNING_ADVDROP_CACHE", raising=False)
    line = f"pip install 'lightning-advdrop[{extra}]'"
    with refused(said, f"needs {module}, which is not installed", line, error=MissingExtraError):
        does()


@pytest.mark.parametrize("module", EXTRAS["cli"])
def test_a_command_says_it_in_a_sentence(module: str) -> None:
    code = (
        f"import sys, lightning.pytorch.cli; sys.modules[{module!r}] = None; from lightning_advdrop.cli import main; "
        "sys.exit(main(['fit']))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr == (
        f"Error: Running experiments needs {named(module)}, which is not installed; run "
        "`pip install 'lightning-advdrop[cli]'`.\n"
    )


def test_another_missing_module_is_left_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError) as raised, needed("Nothing"):
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert raised.type is ModuleNotFoundError


def test_the_extras_are_those_of_the_distribution() -> None:
    """By the names of the distributions."""
    extras = project()["optional-dependencies"]
    everything = extras.pop("all")
    assert everything == [f"lightning-advdrop[{','.join(extras)}]"]
    found = {
        extra: {requirement.partition("[")[0].partition(">")[0].partition("=")[0] for requirement in requirements}
        for extra, requirements in extras.items()
    }
    assert found == {extra: {DISTRIBUTIONS.get(m, m) for m in modules} for extra, modules in EXTRAS.items()}


def test_the_core_needs_nothing_of_the_extras() -> None:
    core = needed_packages("lightning-advdrop")
    assert {"torch", "lightning", "numpy"} <= core
    assert not {DISTRIBUTIONS.get(module, module) for module in HEAVY} & core


def test_all_that_is_imported_is_declared() -> None:
    """Whatever else happens to be installed with it."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "lightning_advdrop").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    imported = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"lightning_advdrop"}
    # The last comes with `pytorch_lightning`, and is imported for its trainers only.
    found = {DISTRIBUTIONS.get(module, module.replace("_", "-")) for module in imported - HEAVY - {"lightning_fabric"}}
    declared = {re.split(r"[^\w-]", requirement)[0] for requirement in project()["dependencies"]}
    assert found == declared


def test_the_rooms_import_nothing_of_the_extras_themselves() -> None:
    """Everything but what runs experiments; lightning, which imports some of the extras by itself, comes first."""
    code = (
        f"import sys, lightning.pytorch; sys.modules.update(dict.fromkeys({HEAVY!r})); import lightning_advdrop as a; "
        "[getattr(a, name) for name in a.__all__]; import lightning_advdrop.report, lightning_advdrop.cli; "
        "import lightning_advdrop.tuning"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_import_costs_little_beyond_that_of_lightning() -> None:
    """In processor time; a reading that other work disturbed is made again."""
    code = (
        "import sys, time; import lightning; before, start = {*sys.modules}, time.process_time(); "
        "import lightning_advdrop; print(time.process_time() - start); "
        f"assert not {HEAVY!r} & ({{*sys.modules}} - before); "
        "assert not [name for name in {*sys.modules} - before if name.startswith('lightning_advdrop.callbacks')]"
    )
    for _ in range(3):
        found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
        if float(found.stdout) <= 0.2:
            return
    pytest.fail(f"import lightning_advdrop took {found.stdout} s beyond import lightning, allowed are 0.2 s")

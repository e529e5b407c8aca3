"""The documentation builds, its Python runs, its command lines are understood, and it names what is there."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

from lightning_advdrop.cli import COMMANDS, EXPERIMENT_COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"_build", "gallery"} & {*page.parts})
EXAMPLES = sorted(path.stem for path in (DOCS / "examples").glob("*.py"))
ROOMS = ("functional", "nn", "masking", "regularizers", "callbacks", "datamodules", "tasks", "report", "tuning", "cli")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in a language: `python` is meant to be run as it is, `bash` to be typed."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks(page: Path) -> None:
    """Runs the Python blocks of a page one after the other in one module, as a program without arguments."""
    module = ModuleType("documentation")
    of_lightning = patch.dict(os.environ, JSONARGPARSE_DEPRECATION_WARNINGS="off")  # LightningCLI makes some itself
    # Not by patch.dict, which would forget what the page imports: imported again, its classes would be there twice.
    sys.modules[module.__name__] = module
    try:
        with patch.object(sys, "argv", [page.name]), of_lightning:
            for number, block in enumerate(blocks(page, "python"), start=1):
                exec(compile(block, f"{page.name}, block {number}", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]


def command_lines(page: Path) -> Iterator[list[str]]:
    """The calls of `lightning` and `advdrop` that a page shows, without settings of variables before them."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words and words[0] in {"lightning", "advdrop"}:
                yield words


COMMAND_LINES = sorted({shlex.join(line) for page in [*PAGES, ROOT / "README.md"] for line in command_lines(page)})


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation, in a copy, where nothing is left of an earlier build and all examples run."""
    root = tmp_path_factory.mktemp("documentation")
    shutil.copytree(DOCS, root / "docs", ignore=shutil.ignore_patterns("_build", "gallery"))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, root)
    command = [sys.executable, "-m", "sphinx", "-W", "-b", "html", str(root / "docs"), str(root / "html")]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=root, env={**os.environ, "PYTHONPATH": paths}
    )
    assert finished.returncode == 0, finished.stderr
    return root / "html"


def test_the_documentation_builds_without_a_warning(html: Path) -> None:
    built = {str(page.relative_to(DOCS).with_suffix(".html")) for page in PAGES}
    assert all((html / page).is_file() for page in built)


def test_each_example_ran_and_shows_a_picture(html: Path) -> None:
    assert {"tutorial", "time_series", "tagger", "transformer", "hugging_face", "language_model"} <= set(EXAMPLES)
    for name in EXAMPLES:
        assert "sphx_glr_" in (html / "gallery" / f"{name}.html").read_text(encoding="utf-8"), name
        assert [*(html / "_images").glob(f"sphx_glr_{name}_0*.png")], name


def test_pages_need_nothing_from_the_network(html: Path) -> None:
    loaded = re.compile(r"""<(?:script|img|iframe)[^>]*\ssrc=["']https?:|<link[^>]*stylesheet[^>]*href=["']https?:""")
    assert not [page.name for page in html.rglob("*.html") if loaded.search(page.read_text(encoding="utf-8"))]


def test_formulas_are_drawn_by_the_browser(html: Path) -> None:
    page = (html / "mathematics.html").read_text(encoding="utf-8")
    assert page.count("<math") > 50
    assert "\\operatorname" not in page


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(DOCS))) for page in PAGES if blocks(page, "python")]
)
def test_the_python_of_a_page_runs(page: Path) -> None:
    run_blocks(page)


def test_command_lines_are_found() -> None:
    assert len(COMMAND_LINES) >= 10
    shown = {shlex.split(line)[1] for line in COMMAND_LINES}
    assert {"fit", "test", "predict", "report"} <= shown


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_line_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(line)
    (command,) = (each for each in COMMANDS if arguments[0] in each.names)
    options = command.parse(program, arguments).experiment
    if not command.experiment:
        return
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    name = arguments[0] if arguments[0] in EXPERIMENT_COMMANDS else "fit"
    arguments = [name, *options, *([] if "--print_config" in options else ["--print_config"])]
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as stopped:
        main(program=program)
    assert stopped.value.code == 0, capsys.readouterr().err
    assert "class_path: lightning_advdrop." in capsys.readouterr().out


def test_the_commands_are_listed() -> None:
    listed = (DOCS / "api" / "cli.md").read_text(encoding="utf-8").splitlines()
    assert not [command.usage for command in COMMANDS if f"advdrop {command.usage}" not in listed]


@pytest.mark.parametrize("room", ROOMS)
def test_the_api_names_everything_public(room: str) -> None:
    page = (DOCS / "api" / f"{room}.md").read_text(encoding="utf-8")
    names = importlib.import_module(f"lightning_advdrop.{room}").__all__
    missing = [name for name in names if not re.search(rf"(:: |`){name}(`|$)", page, re.MULTILINE)]
    assert not missing


def test_every_page_is_reached_from_the_start() -> None:
    listed = {"index", "api/index"}
    for folder, page in (("", DOCS / "index.md"), ("api/", DOCS / "api" / "index.md")):
        trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        lines = [line for tree in trees for line in tree.splitlines()]
        listed |= {f"{folder}{line}" for line in lines if line and not line.startswith(":")}
    generated = {"gallery/index", "gallery/tutorial"}
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES} | generated == listed


def test_the_pages_list_every_configuration() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    listed = set(re.findall(r"^\| `(configs/\w+\.yaml)`", text, re.MULTILINE))
    assert listed == {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}

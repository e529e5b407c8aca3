"""Preparation in processes of its own: started twice at once, and killed."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from lightning_advdrop.datamodules import Document
from tests.helpers.document_files import Sizes, SmallIMDB, make_texts, write_imdb

FORK = multiprocessing.get_context("fork")  # a process that starts from nothing takes seconds for its imports


class SlowIMDB(SmallIMDB):
    """Says that it has begun to read, and then waits until it may go on: it is met, or killed, in the middle."""

    process = "this"

    def read(self) -> Iterator[Document]:
        for number, document in enumerate(super().read()):
            if number == 5:
                (self.root / f"{self.process}.reading").touch()
                wait_for(self.root, "go")
            yield document


def prepare(root: Path, name: str) -> None:
    module = SlowIMDB(root, cache=root / "cache")
    module.process = name
    (root / f"{name}.ready").touch()
    (root / f"{name}.found").write_text(facts(module))


def facts(module: SmallIMDB) -> str:
    module.prepare_data()
    module.setup()
    return f"{len(module.vocabulary)} words, {module._sets['train'].lengths.sum()} tokens"


def start(root: Path, name: str) -> BaseProcess:
    process = FORK.Process(target=prepare, args=(root, name))
    process.start()
    return process


def wait_for(root: Path, pattern: str, count: int = 1) -> None:
    until = time.monotonic() + 120
    while len(list(root.glob(pattern))) < count:
        assert time.monotonic() < until, f"{pattern} did not come"
        time.sleep(0.01)


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "cache").iterdir() if path.is_dir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_imdb(tmp_path, make_texts(Sizes(train=40)))
    return tmp_path


def expected(root: Path) -> str:
    return facts(SmallIMDB(root, cache=root / "another"))


def test_of_two_processes_one_works_and_the_other_waits(root: Path) -> None:
    processes = [start(root, name) for name in ("one", "two")]
    wait_for(root, "*.ready", 2)
    wait_for(root, "*.reading")
    (root / "go").touch()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert [path.read_text() for path in root.glob("*.found")] == [expected(root)] * 2
    assert len(list(root.glob("*.reading"))) == 1
    assert len(folders(root)) == 1


def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(root: Path) -> None:
    process = start(root, "killed")
    wait_for(root, "killed.reading")
    process.kill()
    process.join(120)
    assert all(name.startswith(".") for name in folders(root))
    (root / "go").touch()
    process = start(root, "second")
    process.join(120)
    assert process.exitcode == 0
    assert (root / "second.found").read_text() == expected(root)
    assert (root / "second.reading").exists()
    (name,) = folders(root)
    assert not name.startswith(".")

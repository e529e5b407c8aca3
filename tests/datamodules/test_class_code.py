"""The hash of a class changes with what it does, and with nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lightning_advdrop import datamodules
from lightning_advdrop.datamodules import class_code
from lightning_advdrop.datamodules.class_code import describe_class

# As in a cell of a notebook: there is no file with the source.
SOURCE = """
import functools, re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

LABELS = {"bad": 0, "good": 1}

class Place(Enum):
    FIRST = "here"

@dataclass
class Columns:
    label: int = 4

COLUMNS = Columns()

def counted(function):
    @functools.wraps(function)
    def call(*arguments):
        return function(*arguments)
    return call

@functools.lru_cache
def parse(line):
    return [word for word in line.split("-") if word not in {"a", "the", "of"}]

class Base:
    def words(self, line, least=2):
        return parse(line)

class Mine(Base):
    pattern = re.compile("x+")
    folder = Path("root")
    rename = functools.partial(str.replace, "old")

    def __init__(self):
        super().__init__()

    @counted
    def read(self, *, skip="first"):
        return [(LABELS[word], Place.FIRST, COLUMNS) for word in sorted({"p", "q", "r"})]

    @property
    def largest(self):
        return 17

    @staticmethod
    def again(number):
        return Mine.again(number - 1) if number else 5
"""
CHANGES = {
    "a constant of the module": ('"bad": 0', '"bad": 1'),
    "a member of an enumeration": ('"here"', '"there"'),
    "a field of a dataclass": ("label: int = 4", "label: int = 3"),
    "a function behind a cache": ('"-"', '"_"'),
    "a set inside a function": ('"the", "of"', '"the", "off"'),
    "an operator": ("if word not in", "if word in"),
    "a default": ("least=2", "least=3"),
    "a default by name": ('skip="first"', 'skip="last"'),
    "the flags of a pattern": ('"x+"', '"x+", re.I'),
    "a path": ('Path("root")', 'Path("tree")'),
    "an argument of a partial": ('"old"', '"new"'),
    "a decorated method": ("for word in sorted", "for word in list"),
    "a decorator": ("return function(*arguments)", "return function(*arguments[1:])"),
    "a property": ("return 17", "return 18"),
    "a static method": ("else 5", "else 6"),
    "a special method": ("super().__init__()", "super().__init__(); self.later = 1"),
}


def define(source: str, module: str = "__main__", file: str = "<cell 1>") -> Any:
    names: dict[str, Any] = {"__name__": module}
    exec(compile(source, file, "exec", dont_inherit=True), names)
    return names["Mine"]


def hashed(source: str, **place: str) -> str:
    return describe_class(define(source, **place))["code"]


@pytest.mark.parametrize("change", CHANGES)
def test_code_that_does_something_else(change: str) -> None:
    old, new = CHANGES[change]
    assert SOURCE.count(old) == 1
    assert hashed(SOURCE.replace(old, new)) != hashed(SOURCE)


def test_lines_and_comments_do_not_matter() -> None:
    commented = "# Another cell.\n" + re.sub(r"(\n+)( *)(?=return|class|def)", r"\1\2# why\n\n\2", SOURCE)
    assert commented.count("# why") > 10
    assert hashed(commented, file="another.py") == hashed(SOURCE)


def test_what_it_does_not_use_does_not_matter() -> None:
    assert hashed(SOURCE + "\nUNUSED = 1\n\ndef unused():\n    return 2\n") == hashed(SOURCE)


def test_it_is_the_same_in_each_process() -> None:
    code = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("class_code", {class_code.__file__!r})
class_code = importlib.util.module_from_spec(spec)
spec.loader.exec_module(class_code)
names = {{"__name__": "__main__"}}
exec({SOURCE!r}, names)
print(class_code.describe_class(names["Mine"]))
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert found == {f"{describe_class(define(SOURCE))}\n"}


def test_code_that_has_run_is_the_same() -> None:
    mine = define(SOURCE)
    before = describe_class(mine)
    for _ in range(100):  # Python then replaces instructions by faster ones
        mine.again(3)
        assert mine().words("the-film") == ["film"]
    assert describe_class(mine) == before


def test_classes_of_one_name_are_told_apart() -> None:
    one, other = (describe_class(define(SOURCE, module=module)) for module in ("one.data", "other.data"))
    assert (one["class"], other["class"]) == ("one.data.Mine", "other.data.Mine")
    # A script whose process was spawned has another name for itself.
    assert describe_class(define(SOURCE, module="__mp_main__")) == describe_class(define(SOURCE))


def closed_over(value: object) -> type:
    class Mine:
        def read(self) -> object:
            return value

    return Mine


def code_with(value: object) -> str:
    return describe_class(closed_over(value))["code"]


def test_values_in_closures() -> None:
    values: list[object] = [
        0,
        False,
        0.0,
        "0",
        b"0",
        None,
        ...,
        [0],
        (0,),
        {0},
        {0: 1},
        {1: 0},
        range(3),
        len,
        sys,
        int,
    ]
    assert len({code_with(value) for value in values}) == len(values)


def test_what_has_no_lasting_description_does_not_matter() -> None:
    assert code_with(object()) == code_with(object())
    assert code_with(os.environ) == code_with(type(os.environ)({}, *[str] * 4))


def test_what_holds_itself() -> None:
    endless: list[object] = [1]
    endless.append(endless)
    assert code_with(endless) != code_with([1])

    def later() -> Callable[[], object]:
        return unassigned

    assert code_with(later)
    unassigned = later


def test_functions_of_other_packages_go_by_name() -> None:
    """A release of a library does not have data prepared anew."""

    def with_release(result: int, name: str = "load") -> str:
        library: dict[str, Any] = {"__name__": "library"}
        exec(f"def {name}():\n    return {result}\n", library)
        mine = define("class Mine:\n    def read(self):\n        return load()\n")
        mine.read.__globals__["load"] = library[name]
        return describe_class(mine)["code"]

    assert with_release(1) == with_release(2) != with_release(1, "parse")


def test_classes_of_this_package_have_none() -> None:
    for name in datamodules.__all__:
        if name.endswith("DataModule"):
            assert describe_class(getattr(datamodules, name)) == {}

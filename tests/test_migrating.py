"""Every old form in the table of `docs/migrating.md` gives what the new form gives, and warns if the table says so."""

from __future__ import annotations

import ast
import re
import warnings
from functools import cache
from types import FunctionType
from typing import Any

import pytest
import torch

from tests.test_docs import DOCS, blocks

PAGE = DOCS / "migrating.md"
LINES = re.findall(r"^\|.*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[2:]  # below the heading and its rule


def row(line: str) -> tuple[str, str, bool]:
    """The old code, the new code, and whether the old one warns."""
    found = re.fullmatch(r"\| `(.+)` \| `(.+)` \| (works|warns) \|", line)
    assert found, f"a row must read | `old code` | `new code` | works or warns |, got {line}"
    old, new = (code.replace(r"\|", "|") for code in found.groups()[:2])
    return old, new, found[3] == "warns"


@cache
def names() -> dict[str, Any]:
    """What the page's own code defines."""
    namespace: dict[str, Any] = {"__name__": "migrating"}
    for block in blocks(PAGE, "python"):
        exec(compile(block, PAGE.name, "exec"), namespace)
    return namespace


def value(code: str) -> tuple[Any, list[warnings.WarningMessage]]:
    """Runs statements that are separated by semicolons; returns the value of the last one, and what was warned of."""
    namespace = dict(names())
    *statements, last = ast.parse(code).body
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(ast.Module(statements, []), PAGE.name, "exec"), namespace)
        assert isinstance(last, ast.Expr), f"the last statement must be an expression, got {code}"
        return eval(compile(ast.Expression(last.value), PAGE.name, "eval"), namespace), caught


def same(old: object, new: object) -> bool:
    """Whether two values are the same; of objects that can't be compared, whether their classes are."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        return torch.equal(old, new)
    if isinstance(old, type | FunctionType) or type(old).__eq__ is not object.__eq__:
        return old is new or old == new
    return type(old) is type(new)


def test_there_are_rows() -> None:
    assert LINES


@pytest.mark.parametrize("line", LINES)
def test_an_old_form_gives_what_the_new_one_gives(line: str) -> None:
    old, new, warns = row(line)
    expected, caught = value(new)
    assert not caught, [str(each.message) for each in caught]
    found, caught = value(old)
    assert same(found, expected)
    assert {each.category for each in caught} == ({DeprecationWarning} if warns else set())
    assert all("deprecated" in str(each.message) for each in caught)

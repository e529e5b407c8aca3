"""Words and their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_advdrop.datamodules.text import Vocabulary
from tests.helpers.messages import refused

COUNTS = {"b": 3, "a": 3, "c": 5, "d": 1}


def test_the_most_frequent_come_first() -> None:
    vocabulary = Vocabulary.build(COUNTS, specials=["<pad>", "a"], min_count=2)
    assert vocabulary.words == ["<pad>", "a", "c", "b"]
    assert vocabulary.counts == [0, 3, 5, 3]
    assert len(vocabulary) == 4


def test_the_size_is_limited() -> None:
    assert Vocabulary.build(COUNTS, specials=["<unk>"], max_size=2, unknown="<unk>").words == ["<unk>", "c", "a"]


def test_unknown_words() -> None:
    vocabulary = Vocabulary(["x", "<unk>"], [1, 1], "<unk>")
    assert vocabulary.encode(["x", "y", "<unk>"]) == [0, 1, 1]
    with refused("words", "vocabulary", "'y'"):
        Vocabulary(["x"], [1]).encode(["y"])


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build({"ä": 2, "\n": 1}, specials=["<unk>"], unknown="<unk>")
    vocabulary.save(tmp_path / "words.json")
    loaded = Vocabulary.load(tmp_path / "words.json")
    assert (loaded.words, loaded.counts, loaded.unknown) == (vocabulary.words, vocabulary.counts, "<unk>")


def test_differences_are_named() -> None:
    vocabulary = Vocabulary(["x", "y"], [1, 1])
    vocabulary.check_same(["x", "y"], "old.ckpt")
    with refused("old.ckpt", "vocabulary", 1, "'z'", "'y'"):
        vocabulary.check_same(["x", "z"], "old.ckpt")
    with refused("old.ckpt", "vocabulary", 3, 2):
        vocabulary.check_same(["x", "y", "z"], "old.ckpt")


@pytest.mark.parametrize(
    ("words", "counts", "unknown", "parts"),
    [
        (["x", "x"], [1, 1], None, ("words", "'x'", "once")),
        (["x"], [1, 2], None, ("counts", 1, 2)),
        (["x"], [1], "y", ("unknown", None, "'y'")),
    ],
)
def test_what_is_refused(words: list[str], counts: list[int], unknown: str | None, parts: tuple[object, ...]) -> None:
    with refused(*parts):
        Vocabulary(words, counts, unknown)


@pytest.mark.parametrize("name", ["min_count", "max_size"])
def test_limits_are_positive(name: str) -> None:
    with refused(name, 1, 0):
        Vocabulary.build(COUNTS, **{name: 0})  # type: ignore[arg-type]

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from lightning_advdrop import TextFileDataModule
from lightning_advdrop.datamodules.contiguous import IGNORED, ContiguousBatches
from lightning_advdrop.datamodules.corpus import SPLITS
from lightning_advdrop.datamodules.text_files import DocumentError
from tests.helpers.corpora import WORDS, n_tokens, texts
from tests.helpers.messages import refused

CONTENT = texts()
COUNTS = n_tokens(CONTENT)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    for split, text in CONTENT.items():
        (tmp_path / f"{split}.txt").write_text(text, encoding="utf-8")
    return {split: tmp_path / f"{split}.txt" for split in SPLITS}


def made(paths: dict[str, Path], **arguments: Any) -> TextFileDataModule:
    return TextFileDataModule(**(paths | {"batch_size": 4, "length": 10} | arguments))


def ready(paths: dict[str, Path], **arguments: Any) -> TextFileDataModule:
    data = made(paths, **arguments)
    data.prepare_data()
    data.setup(None)
    return data


def pairs(loader: ContiguousBatches) -> list[tuple[int, int]]:
    """All tokens with their targets, column by column."""
    tokens, targets = (torch.cat(parts).T.flatten() for parts in zip(*loader, strict=True))
    return [(int(token), int(target)) for token, target in zip(tokens, targets, strict=True) if target != IGNORED]


def test_texts_are_numbered_with_the_ends_of_their_lines(paths: dict[str, Path]) -> None:
    data = ready(paths)
    words = np.array(data.vocabulary.words)
    for split in SPLITS:
        expected = CONTENT[split].replace("\n", " <eos> ").split()
        assert words[data.text(split)].tolist() == expected
        assert len(expected) == COUNTS[split]
        assert data.text(split).dtype == np.int32


def test_vocabulary_begins_with_specials_and_goes_on_by_frequency(paths: dict[str, Path]) -> None:
    vocabulary = ready(paths).vocabulary
    counts = Counter(CONTENT["train"].replace("\n", " <eos> ").split())
    assert vocabulary.words[:2] == ["<unk>", "<eos>"]
    assert vocabulary.unknown == "<unk>"
    assert vocabulary.words[2:] == sorted(set(WORDS) - {"<unk>"}, key=lambda word: (-counts[word], word))
    assert vocabulary.counts == [counts[word] for word in vocabulary.words]


def test_words_that_are_not_in_the_training_text_are_unknown(paths: dict[str, Path]) -> None:
    paths["train"].write_text("a b a\n")
    paths["validation"].write_text("b c\n")
    data = ready(paths)
    assert data.vocabulary.words == ["<unk>", "<eos>", "a", "b"]
    assert data.vocabulary.counts == [0, 1, 2, 1]
    assert data.text("validation").tolist() == [3, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"min_count": 2}, ["c", "b"]), ({"max_words": 1}, ["c"]), ({"min_count": 2, "max_words": 1}, ["c"])],
)
def test_smaller_vocabularies(paths: dict[str, Path], arguments: dict[str, Any], words: list[str]) -> None:
    paths["train"].write_text("a b b c c c\n")
    data = ready(paths, **arguments)
    assert data.vocabulary.words == ["<unk>", "<eos>", *words]
    assert sum(data.vocabulary.counts) == 7
    assert [data.vocabulary.words[number] for number in data.text("train")] == [
        word if word in words else "<unk>" for word in "abbccc"
    ] + ["<eos>"]


def test_words_may_end_at_punctuation(paths: dict[str, Path]) -> None:
    paths["train"].write_text("It is. Is it?\n")
    assert sorted(ready(paths, tokens="word").vocabulary.words) == [".", "<eos>", "<unk>", "?", "Is", "It", "is", "it"]
    assert sorted(ready(paths).vocabulary.words) == ["<eos>", "<unk>", "Is", "It", "is.", "it?"]


def test_evaluation_leaves_out_no_word(paths: dict[str, Path]) -> None:
    data = ready(paths, eval_batch_size=7)
    for split, loader in (("validation", data.val_dataloader()), ("test", data.test_dataloader())):
        text = data.text(cast(Any, split)).tolist()
        assert pairs(loader) == list(pairwise(text))
        shapes = [tokens.shape for tokens, _ in loader]
        assert {length for length, _ in shapes[:-1]} <= {10}
        assert len(loader) == len(shapes)
    assert next(iter(data.val_dataloader()))[0].shape == (10, 7)
    assert next(iter(data.test_dataloader()))[0].shape == (10, 1)
    assert pairs(data.predict_dataloader()) == pairs(data.test_dataloader())


def test_training_batches_go_on_where_the_one_before_ended(paths: dict[str, Path]) -> None:
    data = ready(paths)
    batches = list(data.train_dataloader())
    assert len({len(tokens) for tokens, _ in batches}) > 1
    for (_, before), (after, _) in pairwise(batches):
        assert torch.equal(before[-1], after[0])
    text = data.text("train").tolist()
    used = (len(text) - 1) // 4 * 4
    assert pairs(data.train_dataloader()) == list(pairwise(text[: used + 1]))
    assert {len(tokens) for tokens, _ in list(ready(paths, random_lengths=False).train_dataloader())[:-1]} == {10}


def test_seeds_draw_other_lengths(paths: dict[str, Path]) -> None:
    drawn = [[len(tokens) for tokens, _ in ready(paths, seed=seed).train_dataloader()] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_shorter_training_text_keeps_the_vocabulary(paths: dict[str, Path]) -> None:
    whole, short = ready(paths), ready(paths, train_tokens=41)
    assert short.vocabulary.words == whole.vocabulary.words
    assert short.text("train").tolist() == whole.text("train")[:41].tolist()
    assert short.train_dataloader().num_steps == 10
    assert len(short.text("test")) == COUNTS["test"]


def test_too_long_a_training_text_is_refused(paths: dict[str, Path]) -> None:
    data = made(paths, train_tokens=COUNTS["train"] + 1)
    with refused("train_tokens", COUNTS["train"], COUNTS["train"] + 1):
        data.setup("fit")
    ready(paths, train_tokens=COUNTS["train"])


@pytest.mark.parametrize(
    ("arguments", "loader", "most"),
    [
        ({"batch_size": 1000}, "train_dataloader", COUNTS["train"] - 1),
        ({"batch_size": 50, "train_tokens": 50}, "train_dataloader", 49),
        ({"eval_batch_size": 1000}, "val_dataloader", COUNTS["validation"] - 1),
        ({"test_batch_size": 1000}, "test_dataloader", COUNTS["test"] - 1),
    ],
)
def test_batches_larger_than_the_text(paths: dict[str, Path], arguments: Any, loader: str, most: int) -> None:
    data = ready(paths, **arguments)
    with refused(next(iter(arguments)), most, most + 1):
        getattr(data, loader)()


def test_numbers_are_kept(paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ready(paths)
    folders = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(folders) == 1
    with monkeypatch.context() as patch:
        patch.setattr(TextFileDataModule, "read", None)
        again = ready(paths)
    assert again.vocabulary.words == first.vocabulary.words
    assert isinstance(again.text("train"), np.memmap)
    ready(paths, cache=tmp_path / "other")
    assert (tmp_path / "other").is_dir()


@pytest.mark.parametrize(
    "arguments", [{"tokens": "word"}, {"min_count": 3}, {"max_words": 4}], ids=lambda arguments: next(iter(arguments))
)
def test_other_settings_and_files_are_numbered_anew(paths: dict[str, Path], arguments: dict[str, Any]) -> None:
    first = ready(paths)
    assert len(ready(paths, **arguments).text("train")) >= len(first.text("train"))
    paths["test"].write_text("the bank\n")
    assert ready(paths).text("test").tolist() == first.vocabulary.encode(["the", "bank", "<eos>"])


def test_a_failure_leaves_nothing_in_the_cache(paths: dict[str, Path], tmp_path: Path) -> None:
    paths["test"].write_bytes(b"good\nbad \xff\n")
    with refused(paths["test"], "line 2", "0xff", "position 5", "UTF-8", error=DocumentError):
        made(paths).prepare_data()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize("split", SPLITS)
def test_empty_files_are_named(paths: dict[str, Path], split: str) -> None:
    paths[split].write_text("")
    with refused(paths[split], "empty", split, error=DocumentError):
        made(paths).prepare_data()


@pytest.mark.parametrize("step", ["prepare_data", "setup", "sources"])
def test_missing_files_are_named(paths: dict[str, Path], step: str) -> None:
    for split in ("train", "test"):
        paths[split].unlink()
    with refused("missing", paths["train"], paths["test"], error=FileNotFoundError):
        getattr(made(paths), step)()


def test_nothing_is_there_before_it_is_loaded(paths: dict[str, Path]) -> None:
    data = made(paths)
    with refused("TextFileDataModule", "prepare_data", error=RuntimeError):
        data.vocabulary  # noqa: B018 - asking for it is the test
    with refused("TextFileDataModule", "prepare_data", error=RuntimeError):
        data.train_dataloader()
    data.prepare_data()
    assert len(data.vocabulary) == len(WORDS) + 1


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict", None])
def test_every_stage_loads_everything(paths: dict[str, Path], stage: str | None) -> None:
    data = made(paths)
    data.setup(stage)
    data.setup("fit")
    assert len(data.text("test")) == COUNTS["test"]


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ({"batch_size": 0}, ValueError, ("batch_size", 1, 0)),
        ({"eval_batch_size": 0}, ValueError, ("eval_batch_size", 1, 0)),
        ({"test_batch_size": "1"}, TypeError, ("test_batch_size", 1, "'1'")),
        ({"length": 0}, ValueError, ("length", 1, 0)),
        ({"min_count": 0}, ValueError, ("min_count", 1, 0)),
        ({"max_words": 0}, ValueError, ("max_words", 1, 0)),
        ({"train_tokens": 1}, ValueError, ("train_tokens", 2, 1)),
        ({"seed": -1}, ValueError, ("seed", 0, 4294967295, -1)),
        ({"tokens": "letters"}, ValueError, ("tokens", "'whitespace'", "'word'", "'letters'")),
    ],
)
def test_values_out_of_range(arguments: Any, error: type[Exception], parts: tuple[object, ...]) -> None:
    with refused(*parts, error=error):
        TextFileDataModule("a", "b", "c", **arguments)


def test_unknown_stage(paths: dict[str, Path]) -> None:
    with refused("stage", "'fit'", "'validate'", "'test'", "'predict'", None, "'train'"):
        made(paths).setup("train")

"""Constructors pass on what they don't read themselves: each is shown with its help, and no other is taken."""

from __future__ import annotations

from typing import Any

import pytest
from jsonargparse import ArgumentParser

import lightning_advdrop
from lightning_advdrop.datamodules import __all__ as PUBLIC
from tests.helpers.messages import refused

IMAGES = {"by", "permuted", "train_size", "batch_size", "eval_batch_size", "num_workers", "seed"}
TEXTS = {"batch_size", "eval_batch_size", "test_batch_size", "length", "random_lengths", "train_tokens", "max_words"}
TEXTS |= {"max_length", "seed", "cache"}
PUBLISHED = {"root", "download", "mirrors"}
DOCUMENTS = {"root", "task", "reverse", "train_size", "unlabelled_size", "max_tokens", "max_vocabulary", "batch_size"}
DOCUMENTS |= {"unlabelled_batch_size", "eval_batch_size", "vectors", "num_workers", "seed", "cache"}
ARGUMENTS = {
    "DigitsDataModule": IMAGES,
    "ElecDataModule": DOCUMENTS | PUBLISHED | {"unlabelled", "md5"},
    "IMDBDataModule": DOCUMENTS | PUBLISHED,
    "MNISTDataModule": IMAGES | PUBLISHED | {"image_size"},
    "PennTreebankDataModule": TEXTS | PUBLISHED,
    "RCV1DataModule": DOCUMENTS,
    "TextFileDataModule": TEXTS | {"train", "validation", "test", "tokens", "min_count"},
    "WikiText2DataModule": TEXTS | PUBLISHED,
}
EXAMPLES: dict[str, Any] = {"TextFileDataModule": {"train": "a", "validation": "b", "test": "c"}}


def test_all_are_tested() -> None:
    assert {name for name in PUBLIC if name.endswith("DataModule")} == {*ARGUMENTS, "DocumentDataModule"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_is_shown_with_help_and_default(name: str) -> None:
    kind: Any = getattr(lightning_advdrop, name)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "data")
    shown = {action.dest.removeprefix("data."): action for action in parser._actions if action.dest.startswith("data.")}
    assert set(shown) == ARGUMENTS[name]
    assert not [argument for argument, action in shown.items() if not action.help]
    required = EXAMPLES.get(name, {})
    data = kind(**required)
    given = {argument: str(value) for argument, value in required.items()}
    parsed = parser.parse_args([f"--data.{argument}={value}" for argument, value in given.items()])
    for argument in ARGUMENTS[name] & {"batch_size", "eval_batch_size", "length", "seed", "train_size", "max_tokens"}:
        assert getattr(parsed.data, argument) == getattr(data, argument)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_unknown_arguments_are_refused(name: str) -> None:
    kind: Any = getattr(lightning_advdrop, name)
    with refused("'colour'", error=TypeError):
        kind(**EXAMPLES.get(name, {}), colour="red")


def test_arguments_by_position() -> None:
    ptb = lightning_advdrop.PennTreebankDataModule("sets", 3, 4, 5, 6, False, 7)
    assert (ptb.batch_size, ptb.eval_batch_size, ptb.test_batch_size) == (3, 4, 5)
    assert (ptb.length, ptb.random_lengths, ptb.train_tokens) == (6, False, 7)
    mnist = lightning_advdrop.MNISTDataModule("sets", "pixel", True, 14, 9)
    assert (mnist.by, mnist.permuted, mnist.side, mnist.train_size) == ("pixel", True, 14, 9)
    rcv1 = lightning_advdrop.RCV1DataModule("sets", "pretrain", True, 5, 6, 7, 8)
    assert (rcv1.task, rcv1.reverse, rcv1.train_size, rcv1.max_tokens) == ("pretrain", True, 5, 7)

"""Tiny data sets in the real formats, by data module: what any experiment needs to run a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightning_advdrop import MNISTDataModule, PennTreebankDataModule, WikiText2DataModule
from tests.helpers.corpora import TEXT_FILES, WORDS, n_tokens, texts, write_ptb, write_text_files, write_wikitext2
from tests.helpers.idx_files import mnist_arrays, write_mnist

_Images = ("--data.init_args.batch_size", "4", "--data.init_args.eval_batch_size", "4")


class TinyData(NamedTuple):
    """Attributes:
    write: writes the data below a root and makes the data module expect them.
    overrides: what to append to the command line of an experiment, given its ``data.init_args``.
    model_overrides: what to append so that the experiment's model is small.
    """

    write: Callable[[Path, pytest.MonkeyPatch], None]
    overrides: Callable[[dict[str, Any]], list[str]]
    model_overrides: tuple[str, ...] = ()


def _no_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For data that come with a package."""


def _write_mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNISTDataModule, "n_train", 30)
    monkeypatch.setattr(MNISTDataModule, "n_validation", 10)
    monkeypatch.setattr(MNISTDataModule, "n_test", 10)
    write_mnist(root, mnist_arrays(40, 10))


def _few_images(arguments: dict[str, Any]) -> list[str]:
    return [*_Images, *(["--data.init_args.train_size", "20"] if "train_size" in arguments else [])]


def _write_corpus(write: Callable[..., None], *modules: type[Any]) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = texts()
        for module in modules:
            monkeypatch.setattr(module, "n_tokens", n_tokens(content))
            monkeypatch.setattr(module, "n_words", len(WORDS) + 1)
        write(root, content)

    return written


def _few_words(arguments: dict[str, Any]) -> list[str]:
    sizes = {"batch_size": 4, "eval_batch_size": 2, "test_batch_size": 1, "length": 8}
    if arguments.get("train_tokens"):
        sizes["train_tokens"] = 200
    return [word for name, size in sizes.items() for word in (f"--data.init_args.{name}", str(size))]


def _few_words_of_files(arguments: dict[str, Any]) -> list[str]:
    """For the working folder being the root."""
    paths = [word for name in TEXT_FILES for word in (f"--data.init_args.{name}", TEXT_FILES[name])]
    return [*_few_words(arguments), *paths]


_SMALL_AWD_LSTM = ("--model.init_args.hidden_size", "10", "--model.init_args.embedding_size", "6")
_SMALL_LSTM = ("--model.init_args.hidden_size", "10")

#: By the name of the data module's class.
TINY_DATA: dict[str, TinyData] = {
    "DigitsDataModule": TinyData(_no_files, _few_images, _SMALL_LSTM),
    "MNISTDataModule": TinyData(_write_mnist, _few_images, _SMALL_LSTM),
    "PennTreebankDataModule": TinyData(_write_corpus(write_ptb, PennTreebankDataModule), _few_words, _SMALL_AWD_LSTM),
    "TextFileDataModule": TinyData(_write_corpus(write_text_files), _few_words_of_files, _SMALL_AWD_LSTM),
    "WikiText2DataModule": TinyData(_write_corpus(write_wikitext2, WikiText2DataModule), _few_words, _SMALL_AWD_LSTM),
}

"""Tiny data sets in the real formats, by data module: what any experiment needs to run a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightning_advdrop import IMDBDataModule, MNISTDataModule, PennTreebankDataModule, WikiText2DataModule
from tests.helpers.corpora import TEXT_FILES, WORDS, n_tokens, texts, write_ptb, write_text_files, write_wikitext2
from tests.helpers.document_files import as_documents, make_texts, write_elec, write_imdb, write_rcv1
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


def _write_imdb(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IMDBDataModule, "n_documents", None)
    write_imdb(root, make_texts())


def _write_elec(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_elec(root, as_documents(make_texts()))


def _write_rcv1(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rcv1(root, make_texts(classes=4))


def _few_documents(arguments: dict[str, Any]) -> list[str]:
    options = {"batch_size": 4, "eval_batch_size": 4, "max_tokens": 8}
    small = {"train_size": 12, "unlabelled_size": 8, "unlabelled_batch_size": 4}
    options |= {name: value for name, value in small.items() if arguments.get(name) is not None}
    # Full-size readers take seconds a step.
    small_model = ("--model.init_args.hidden_size", "16", "--model.init_args.embedding_size", "8")
    words = [word for name, value in options.items() for word in (f"--data.init_args.{name}", str(value))]
    if arguments.get("task") == "pretrain":
        return [*words, *small_model]
    untrained = ("--model.init_args.pretrained", "null", "--model.init_args.pretrained_backward", "null")
    return [*words, *small_model, *untrained]


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
    "ElecDataModule": TinyData(_write_elec, _few_documents),
    "IMDBDataModule": TinyData(_write_imdb, _few_documents),
    "MNISTDataModule": TinyData(_write_mnist, _few_images, _SMALL_LSTM),
    "RCV1DataModule": TinyData(_write_rcv1, _few_documents),
    "PennTreebankDataModule": TinyData(_write_corpus(write_ptb, PennTreebankDataModule), _few_words, _SMALL_AWD_LSTM),
    "TextFileDataModule": TinyData(_write_corpus(write_text_files), _few_words_of_files, _SMALL_AWD_LSTM),
    "WikiText2DataModule": TinyData(_write_corpus(write_wikitext2, WikiText2DataModule), _few_words, _SMALL_AWD_LSTM),
}

"""Prepared data are those of the class that asks for them: of what it reads, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_advdrop.datamodules import (
    Document,
    DocumentDataModule,
    DocumentError,
    ElecDataModule,
    PennTreebankDataModule,
    RCV1DataModule,
)
from tests.helpers.corpora import texts, write_ptb
from tests.helpers.document_files import SmallIMDB, as_documents, make_texts, write_elec, write_imdb, write_rcv1
from tests.helpers.messages import refused

TEXTS = {part: [(label, f"It isn't {text}") for label, text in texts] for part, texts in make_texts().items()}
FILES: dict[type[DocumentDataModule], Callable[[Path], Path]] = {
    ElecDataModule: lambda root: write_elec(root, as_documents(TEXTS)),
    SmallIMDB: lambda root: write_imdb(root, TEXTS),
    RCV1DataModule: lambda root: write_rcv1(root, TEXTS),
}


def words_of(module: DocumentDataModule) -> set[str]:
    module.prepare_data()
    return set(module.vocabulary.words)


@pytest.mark.parametrize("kind", FILES)
def test_documents_are_split_as_the_attribute_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[DocumentDataModule]
) -> None:
    FILES[kind](tmp_path)
    for _ in range(2):  # the second time from what has been prepared
        monkeypatch.setattr(kind, "tokenizer", "blanks")
        assert "isn't" in words_of(kind(tmp_path))
        monkeypatch.setattr(kind, "tokenizer", "punctuation")
        assert not {"isn", "t"} - (found := words_of(kind(tmp_path)))
        assert "isn't" not in found


@pytest.mark.parametrize("kind", FILES)
def test_an_unknown_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[DocumentDataModule]) -> None:
    FILES[kind](tmp_path)
    monkeypatch.setattr(kind, "tokenizer", "spacy")
    with refused("tokenizer", "'punctuation'", "'blanks'", "'spacy'"):
        kind(tmp_path).prepare_data()


def reader(labels: tuple[int, int], module: str = "mine") -> type[DocumentDataModule]:
    """A class as a user writes it, whose labels may be the wrong way round."""

    class Mine(DocumentDataModule):
        folder_name = "mine"
        class_names = ("neg", "pos")

        def find_files(self) -> list[Path]:
            return [self.folder / "films.txt"]

        def read(self) -> Iterator[Document]:
            for number, line in enumerate(self.require_files()[0].read_text().splitlines()):
                yield Document("test" if number < 4 else "train", labels[line == "good"], number, [line])

    Mine.__module__ = module
    return Mine


def labels_of(kind: type[DocumentDataModule], root: Path) -> list[int]:
    (module := kind(root)).prepare_data()
    labels: list[int] = module.corpus.parts["test"].labels.tolist()
    return labels


def test_a_corrected_class_prepares_anew(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "films.txt").write_text("good\nbad\n" * 20)
    for _ in range(2):
        assert labels_of(reader((1, 0)), tmp_path) == [0, 1, 0, 1]
        assert labels_of(reader((0, 1)), tmp_path) == [1, 0, 1, 0]
    folders = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(folders) == 2  # each class has been read once
    labels_of(reader((0, 1), "another project"), tmp_path)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 3


COUNTED = {"train": (18, 18), "test": (2, 2), "unlabelled": (0,)}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"train": (18, 17)}, (18, "train", "pos", 17)),
        ({"train": (18,)}, (18, "train", "pos", 0)),
        ({"test": (2, 2, 1)}, (0, "test", 2, 1)),
        ({"unlabelled": (7,)}, (0, "unlabelled", 7)),
        ({"validation": (3, 3)}, (15, "train", "neg", 18)),
        ({"train": (15, 16), "validation": (3, 3)}, (2, "validation", "pos", 3)),
    ],
)
def test_numbers_of_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], parts: tuple[object, ...]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "films.txt").write_text("good\nbad\n" * 20)
    kind = reader((0, 1))
    kind(tmp_path).prepare_data()
    # Counted for the same class, too, where it has been prepared without.
    monkeypatch.setattr(DocumentDataModule, "n_documents", COUNTED | changes)
    with refused(tmp_path / "mine", kind.title, *parts, "published", error=DocumentError):
        kind(tmp_path).prepare_data()
    monkeypatch.setattr(DocumentDataModule, "n_documents", COUNTED)
    kind(tmp_path).prepare_data()


def test_a_corrected_class_of_running_text_prepares_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Upper(PennTreebankDataModule):
        n_tokens = n_words = None

    write_ptb(tmp_path, texts())
    (before := Upper(tmp_path)).prepare_data()

    def read(self: Upper) -> Iterator[Document]:
        for document in super(Upper, self).read():
            yield document._replace(words=(word.upper() for word in document.words))

    monkeypatch.setattr(Upper, "read", read)
    (after := Upper(tmp_path)).prepare_data()
    assert "market" in before.vocabulary.words
    assert "MARKET" in after.vocabulary.words

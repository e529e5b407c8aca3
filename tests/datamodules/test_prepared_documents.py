"""Prepared data are those of the class that asks for them: of what it reads, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_advdrop.datamodules import DocumentDataModule, ElecDataModule, IMDBDataModule, RCV1DataModule
from tests.helpers.document_files import as_documents, make_texts, write_elec, write_imdb, write_rcv1
from tests.helpers.messages import refused

TEXTS = {part: [(label, f"It isn't {text}") for label, text in texts] for part, texts in make_texts().items()}
FILES: dict[type[DocumentDataModule], Callable[[Path], Path]] = {
    ElecDataModule: lambda root: write_elec(root, as_documents(TEXTS)),
    IMDBDataModule: lambda root: write_imdb(root, TEXTS),
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

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lightning_advdrop.datamodules import UNLABELLED, IMDBDataModule
from tests.helpers.document_files import check_refused, encoded_content, imdb_files, make_texts, tar_gz, write_imdb
from tests.helpers.messages import refused
from tests.helpers.servers import mirror

TEXTS = make_texts()


@pytest.mark.parametrize("unpacked", [False, True])
def test_reviews_are_those_of_the_files(tmp_path: Path, unpacked: bool) -> None:
    write_imdb(tmp_path, TEXTS, unpacked)
    found = Counter((part, label, tuple(words)) for part, label, _, words in IMDBDataModule(tmp_path).read())
    assert found == Counter(
        (part, label, tuple(re.findall(r"\w+", text))) for part, texts in TEXTS.items() for label, text in texts
    )


def test_archive_and_folder_give_the_same(tmp_path: Path) -> None:
    stores = []
    for unpacked in (False, True):
        write_imdb(tmp_path / str(unpacked), TEXTS, unpacked)
        (module := IMDBDataModule(tmp_path / str(unpacked))).prepare_data()
        stores.append(encoded_content(module.corpus))
    # Numbers go by frequency, so that they do not depend on the order of reading.
    assert stores[0] == stores[1]


def test_the_folder_is_preferred(tmp_path: Path) -> None:
    write_imdb(tmp_path, TEXTS)
    write_imdb(
        tmp_path, {part: [(label, "seen") for label, _ in texts] for part, texts in TEXTS.items()}, unpacked=True
    )
    assert {word for document in IMDBDataModule(tmp_path).read() for word in document.words} == {"seen"}


def test_a_changed_folder_is_encoded_anew(tmp_path: Path) -> None:
    folder = write_imdb(tmp_path, TEXTS, unpacked=True)
    before = IMDBDataModule(tmp_path).fingerprint()
    (folder / "train" / "unsup" / "0_0.txt").write_text("another")
    assert IMDBDataModule(tmp_path).fingerprint() != before


@pytest.mark.parametrize("name", ["train/unsup", "train/pos", "test/neg"])
def test_a_missing_folder(tmp_path: Path, name: str) -> None:
    folder = write_imdb(tmp_path, TEXTS, unpacked=True)
    shutil.rmtree(folder / name)
    with refused("IMDB", "missing", folder / name, "aclImdb_v1.tar.gz", folder, error=FileNotFoundError):
        IMDBDataModule(tmp_path).prepare_data()


def test_an_archive_without_unlabelled_reviews(tmp_path: Path) -> None:
    archive = write_imdb(tmp_path, {**TEXTS, "unlabelled": []})
    check_refused(IMDBDataModule(tmp_path), archive, "lacks", "aclImdb/train/unsup", "delete")


def test_a_truncated_archive(tmp_path: Path) -> None:
    archive = write_imdb(tmp_path, TEXTS)
    archive.write_bytes(archive.read_bytes()[:-100])
    check_refused(IMDBDataModule(tmp_path), archive, "truncated")


def test_a_path_that_leaves_the_folder(tmp_path: Path) -> None:
    archive = write_imdb(tmp_path, TEXTS)
    archive.write_bytes(tar_gz({**imdb_files(TEXTS), "aclImdb/train/pos/../../../../evil.txt": b"evil"}))
    check_refused(IMDBDataModule(tmp_path), archive, "'aclImdb/train/pos/../../../../evil.txt'", "out of its folder")
    assert not list(tmp_path.parent.rglob("evil.txt"))


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ("without a word",)),
        (b" ...\n", ("without a word",)),
        (b"caf\xe9", ("0xe9", "position 4", "UTF-8")),
    ],
)
def test_a_bad_review(tmp_path: Path, unpacked: bool, content: bytes, parts: tuple[str, ...]) -> None:
    path = write_imdb(tmp_path, TEXTS, unpacked)
    name = "test/pos/1_9.txt"
    if unpacked:
        (path / name).write_bytes(content)
        place = path / name
    else:
        path.write_bytes(tar_gz({**imdb_files(TEXTS), f"aclImdb/{name}": content}))
        place = path / "aclImdb" / name
    check_refused(IMDBDataModule(tmp_path), place, "line 1", *parts)


def test_the_line_of_an_invalid_byte(tmp_path: Path) -> None:
    folder = write_imdb(tmp_path, TEXTS, unpacked=True)
    (folder / "train/unsup/0_0.txt").write_bytes("fine\nübel \n".encode() + b"ab\xff")
    check_refused(IMDBDataModule(tmp_path), "0_0.txt", "line 3", "0xff", "position 3")


def test_download_is_not_needed_beside_the_folder(tmp_path: Path) -> None:
    write_imdb(tmp_path, TEXTS, unpacked=True)
    with mirror({}) as server:
        IMDBDataModule(tmp_path, download=True, mirrors=[server.address]).prepare_data()
    assert server.requests == []


def test_published_facts() -> None:
    module = IMDBDataModule()
    assert (module.class_names, module.num_classes, module.tokenizer) == (("neg", "pos"), 2, "punctuation")
    assert (module.max_tokens, module.max_vocabulary, module.batch_size) == (400, 100_000, 64)


@pytest.mark.real_data
def test_real_archive(real_data_root: Path, tmp_path: Path) -> None:
    module = IMDBDataModule(real_data_root, cache=tmp_path)
    module.prepare_data()
    module.setup()
    sets: Any = module._sets
    counts = {part: (len(documents), int(documents.lengths.sum())) for part, documents in sets.items()}
    assert counts == {
        "train": (21_250, 5_177_960),
        "validation": (3_750, 903_593),
        "unlabelled": (50_000, 12_200_586),
        "test": (25_000, 5_944_295),
    }
    for part, each in {"train": 10_625, "validation": 1_875, "test": 12_500}.items():
        assert Counter(sets[part].labels.tolist()) == {0: each, 1: each}
    assert set(sets["unlabelled"].labels.tolist()) == {UNLABELLED}
    vocabulary = module.vocabulary
    assert len(vocabulary) == 86_969
    assert vocabulary.words[:6] == ["<unk>", "<pad>", "<eos>", "the", "and", "a"]
    assert vocabulary.counts[:6] == [77_038, 0, 71_250, 830_768, 449_273, 448_108]
    assert sum(vocabulary.counts) == 5_177_960 + 12_200_586

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lightning_advdrop.datamodules import UNLABELLED, IMDBDataModule
from tests.helpers.document_files import (
    SmallIMDB,
    Texts,
    check_refused,
    encoded_content,
    imdb_files,
    make_texts,
    tar_gz,
    write_imdb,
)
from tests.helpers.messages import refused
from tests.helpers.servers import mirror

TEXTS = make_texts()


@pytest.mark.parametrize("unpacked", [False, True])
def test_reviews_are_those_of_the_files(tmp_path: Path, unpacked: bool) -> None:
    write_imdb(tmp_path, TEXTS, unpacked)
    found = Counter((part, label, tuple(words)) for part, label, _, words in SmallIMDB(tmp_path).read())
    assert found == Counter(
        (part, label, tuple(re.findall(r"\w+", text))) for part, texts in TEXTS.items() for label, text in texts
    )


def test_archive_and_folder_give_the_same(tmp_path: Path) -> None:
    stores = []
    for unpacked in (False, True):
        write_imdb(tmp_path / str(unpacked), TEXTS, unpacked)
        (module := SmallIMDB(tmp_path / str(unpacked))).prepare_data()
        stores.append(encoded_content(module.corpus))
    # Numbers go by frequency, so that they do not depend on the order of reading.
    assert stores[0] == stores[1]


def test_the_folder_is_preferred(tmp_path: Path) -> None:
    write_imdb(tmp_path, TEXTS)
    write_imdb(
        tmp_path, {part: [(label, "seen") for label, _ in texts] for part, texts in TEXTS.items()}, unpacked=True
    )
    assert {word for document in SmallIMDB(tmp_path).read() for word in document.words} == {"seen"}


def test_a_changed_folder_is_encoded_anew(tmp_path: Path) -> None:
    folder = write_imdb(tmp_path, TEXTS, unpacked=True)
    before = SmallIMDB(tmp_path).fingerprint()
    (folder / "train" / "unsup" / "0_0.txt").write_text("another")
    assert SmallIMDB(tmp_path).fingerprint() != before


@pytest.mark.parametrize("name", ["train/unsup", "train/pos", "test/neg"])
def test_a_missing_folder(tmp_path: Path, name: str) -> None:
    folder = write_imdb(tmp_path, TEXTS, unpacked=True)
    shutil.rmtree(folder / name)
    with refused("IMDB", "missing", folder / name, "aclImdb_v1.tar.gz", folder, error=FileNotFoundError):
        SmallIMDB(tmp_path).prepare_data()


def test_an_archive_without_unlabelled_reviews(tmp_path: Path) -> None:
    archive = write_imdb(tmp_path, {**TEXTS, "unlabelled": []})
    check_refused(SmallIMDB(tmp_path), archive, "lacks", "aclImdb/train/unsup", "delete")


class WholeIMDB(IMDBDataModule):
    """Expects all reviews of `TEXTS`."""

    n_documents: ClassVar[Any] = {"train": (10, 10), "test": (3, 3), "unlabelled": (12,)}


def without(texts: Texts, part: str, label: int) -> Texts:
    """The texts without the last one of a class."""
    last = max(number for number, (found, _) in enumerate(texts[part]) if found == label)
    return {**texts, part: [*texts[part][:last], *texts[part][last + 1 :]]}


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("part", "label", "parts"),
    [
        ("train", 0, (9, "train", "neg", 10)),
        ("train", 1, (9, "train", "pos", 10)),
        ("test", 1, (2, "test", "pos", 3)),
        ("unlabelled", UNLABELLED, (11, "unlabelled", 12)),
    ],
)
def test_reviews_that_are_not_all_there(
    tmp_path: Path, unpacked: bool, part: str, label: int, parts: tuple[object, ...]
) -> None:
    write_imdb(tmp_path / "whole", TEXTS, unpacked)
    WholeIMDB(tmp_path / "whole", cache=tmp_path / "whole cache").prepare_data()
    write_imdb(tmp_path, without(TEXTS, part, label), unpacked)
    check_refused(WholeIMDB(tmp_path), tmp_path / "imdb", "IMDB", *parts, "published")


def test_the_published_numbers_are_expected(tmp_path: Path) -> None:
    write_imdb(tmp_path, TEXTS)
    SmallIMDB(tmp_path, cache=tmp_path / "small").prepare_data()
    check_refused(IMDBDataModule(tmp_path), tmp_path / "imdb", "IMDB", 10, "train", "neg", "12,500", "published")
    both = (12_500, 12_500)
    assert IMDBDataModule.n_documents == {"train": both, "test": both, "unlabelled": (50_000,)}


def test_a_truncated_archive(tmp_path: Path) -> None:
    archive = write_imdb(tmp_path, TEXTS)
    archive.write_bytes(archive.read_bytes()[:-100])
    check_refused(SmallIMDB(tmp_path), archive, "truncated")


def test_a_path_that_leaves_the_folder(tmp_path: Path) -> None:
    archive = write_imdb(tmp_path, TEXTS)
    archive.write_bytes(tar_gz({**imdb_files(TEXTS), "aclImdb/train/pos/../../../../evil.txt": b"evil"}))
    check_refused(SmallIMDB(tmp_path), archive, "'aclImdb/train/pos/../../../../evil.txt'", "out of its folder")
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
    check_refused(SmallIMDB(tmp_path), place, "line 1", *parts)


def test_the_line_of_an_invalid_byte(tmp_path: Path) -> None:
    folder = write_imdb(tmp_path, TEXTS, unpacked=True)
    (folder / "train/unsup/0_0.txt").write_bytes("fine\nübel \n".encode() + b"ab\xff")
    check_refused(SmallIMDB(tmp_path), "0_0.txt", "line 3", "0xff", "position 3")


def test_download_is_not_needed_beside_the_folder(tmp_path: Path) -> None:
    write_imdb(tmp_path, TEXTS, unpacked=True)
    with mirror({}) as server:
        SmallIMDB(tmp_path, download=True, mirrors=[server.address]).prepare_data()
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

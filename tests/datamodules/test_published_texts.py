"""The Penn Treebank and WikiText-2: the same data module, on plain files and on an archive."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lightning_advdrop import PennTreebankDataModule, WikiText2DataModule
from lightning_advdrop.datamodules.corpus import SPLITS, CorpusDataModule, Split
from lightning_advdrop.datamodules.text_files import DocumentError
from tests.helpers.corpora import (
    PTB_NAMES,
    WIKITEXT2_ARCHIVE,
    WIKITEXT2_NAMES,
    WIKITEXT2_UNPACKED,
    WORDS,
    n_tokens,
    texts,
    write_ptb,
    write_wikitext2,
    zipped,
)
from tests.helpers.idx_files import md5
from tests.helpers.messages import refused

CONTENT = texts()
COUNTS = n_tokens(CONTENT)


class SmallPennTreebank(PennTreebankDataModule):
    """The same on short texts."""

    n_tokens: ClassVar[Mapping[Split, int] | None] = COUNTS
    n_words: ClassVar[int | None] = len(WORDS) + 1


class SmallWikiText2(WikiText2DataModule):
    """The same on short texts."""

    n_tokens: ClassVar[Mapping[Split, int] | None] = COUNTS
    n_words: ClassVar[int | None] = len(WORDS) + 1


Kind = type[SmallPennTreebank | SmallWikiText2]
each = pytest.mark.parametrize("kind", [SmallPennTreebank, SmallWikiText2])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ptb(tmp_path, CONTENT)
    write_wikitext2(tmp_path, CONTENT)
    return tmp_path


@pytest.fixture
def archive(root: Path) -> Path:
    return root / "wikitext-2" / WIKITEXT2_ARCHIVE


def ready(kind: Kind, root: Path, **arguments: Any) -> SmallPennTreebank | SmallWikiText2:
    data = kind(root, **arguments)
    data.prepare_data()
    data.setup(None)
    return data


def words_of(data: CorpusDataModule, split: Split) -> list[str]:
    return [data.vocabulary.words[number] for number in data.text(split)]


@each
def test_the_splits_are_those_of_the_files(root: Path, kind: Kind) -> None:
    before = sorted(root.rglob("*"))
    data = ready(kind, root, cache=root.parent / "cache")
    for split in SPLITS:
        assert words_of(data, split) == CONTENT[split].replace("\n", " <eos> ").split()
    assert sorted(root.rglob("*")) == before


@each
@pytest.mark.parametrize("split", SPLITS)
def test_other_texts_are_refused_with_the_numbers(root: Path, kind: Kind, split: Split) -> None:
    content = {**CONTENT, split: CONTENT[split] + "one more\n"}
    write_ptb(root, content)
    write_wikitext2(root, content)
    source = kind(root).sources()[split]
    with refused(source, split, COUNTS[split] + 3, COUNTS[split], error=DocumentError):
        kind(root).prepare_data()
    assert not [path for path in (root / "cache").iterdir() if path.is_dir()]


def test_other_words_are_refused_with_the_numbers(root: Path) -> None:
    path = root / "ptb" / "ptb.train.txt"
    path.write_text(CONTENT["train"].replace("market", "bank"))
    with refused(path, 10, "vocabulary", 11, error=DocumentError):
        SmallPennTreebank(root).prepare_data()


def test_a_smaller_vocabulary_is_not_the_published_one(root: Path) -> None:
    data, whole = ready(SmallPennTreebank, root, max_words=3), ready(SmallPennTreebank, root)
    assert data.vocabulary.words == whole.vocabulary.words[:5]
    assert len(data.text("test")) == COUNTS["test"]
    assert data.text("test").tolist() == [number if number < 5 else 0 for number in whole.text("test")]
    assert sum(data.vocabulary.counts) == COUNTS["train"]


def test_numbers_are_checked_even_if_they_were_kept_for_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(SmallPennTreebank, root)
    monkeypatch.setattr(SmallPennTreebank, "n_tokens", PennTreebankDataModule.n_tokens)
    with refused("929,589", error=DocumentError):
        SmallPennTreebank(root).prepare_data()


def test_unpacked_files_are_preferred_if_all_are_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = texts(seed=1)
    for split, name in zip(SPLITS, WIKITEXT2_UNPACKED, strict=True):
        sources = SmallWikiText2(root).sources()
        assert {source.path.name for source in sources.values()} == {WIKITEXT2_ARCHIVE}
        (root / "wikitext-2" / name).write_text(content[split])
    monkeypatch.setattr(SmallWikiText2, "n_tokens", n_tokens(content))
    assert words_of(ready(SmallWikiText2, root), "test") == content["test"].replace("\n", " <eos> ").split()


def test_a_missing_split_is_named(root: Path, archive: Path) -> None:
    names = {name: CONTENT[split] for split, name in WIKITEXT2_NAMES.items() if split != "validation"}
    archive.write_bytes(zipped(names))
    with refused(archive, "lacks", "wikitext-2/wiki.valid.tokens", error=DocumentError):
        SmallWikiText2(root).prepare_data()


def test_a_truncated_archive_is_named(root: Path, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-40])
    with refused(archive, "(wikitext-2/wiki.train.tokens)", "unpacked", error=DocumentError):
        SmallWikiText2(root).prepare_data()


def test_local_archives_may_be_packed_anew(root: Path, archive: Path) -> None:
    before = archive.read_bytes()
    archive.write_bytes(zipped({"readme": "anew", **{WIKITEXT2_NAMES[split]: CONTENT[split] for split in SPLITS}}))
    assert archive.read_bytes() != before
    ready(SmallWikiText2, root)


PTB = {"train": 929_589, "validation": 73_760, "test": 82_430}
WIKITEXT2 = {"train": 2_088_628, "validation": 217_646, "test": 245_569}


@pytest.mark.parametrize(
    ("kind", "tokens", "words", "files"),
    [
        (PennTreebankDataModule, PTB, 10_000, list(PTB_NAMES.values())),
        (WikiText2DataModule, WIKITEXT2, 33_278, [WIKITEXT2_ARCHIVE]),
    ],
)
def test_published_facts(
    kind: Callable[[], PennTreebankDataModule | WikiText2DataModule],
    tokens: dict[str, int],
    words: int,
    files: list[str],
) -> None:
    data = kind()
    assert (data.n_tokens, data.n_words, list(data.checksums)) == (tokens, words, files)
    assert (data.batch_size, data.eval_batch_size, data.test_batch_size, data.length) == (20, 10, 1, 70)
    assert data.random_lengths


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("kind", "tokens", "words", "counts", "first"),
    [
        (PennTreebankDataModule, PTB, "<unk> <eos> the N of", [45_020, 42_068], "consumers may want to move their"),
        (WikiText2DataModule, WIKITEXT2, "<unk> <eos> the , .", [54_625, 36_718], "<eos> = Homarus gammarus = <eos>"),
    ],
)
def test_real_files(
    real_data_root: Path, kind: Any, tokens: dict[str, int], words: str, counts: list[int], first: str
) -> None:
    data = kind(real_data_root)
    data.prepare_data()
    data.setup("fit")
    assert {split: len(data.text(split)) for split in SPLITS} == tokens
    assert len(data.vocabulary) == kind.n_words
    assert data.vocabulary.words[:5] == words.split()
    assert data.vocabulary.counts[:2] == counts
    assert sum(data.vocabulary.counts) == tokens["train"]
    assert words_of(data, "validation")[:6] == first.split()


@pytest.mark.real_data
def test_real_batches(real_data_root: Path) -> None:
    data = PennTreebankDataModule(real_data_root)
    assert {path.name: md5(path.read_bytes()) for path in data.require_files()} == data.checksums
    data.setup("fit")
    loader = data.train_dataloader()
    assert loader.num_steps == 46_479
    assert next(iter(loader))[0].shape[1] == 20
    assert len(data.val_dataloader()) == 106
    assert len(data.test_dataloader()) == 1178

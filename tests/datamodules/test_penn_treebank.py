import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lightning_advdrop import PennTreebankDataModule
from lightning_advdrop.datamodules.corpus import SPLITS, Split
from lightning_advdrop.datamodules.downloads import DownloadError
from lightning_advdrop.datamodules.penn_treebank import PENN_TREEBANK_MIRRORS
from lightning_advdrop.datamodules.text_files import DocumentError
from tests.helpers.corpora import PTB_NAMES, WORDS, n_tokens, texts, write_ptb
from tests.helpers.idx_files import md5
from tests.helpers.servers import mirror

CONTENT = texts()
COUNTS = n_tokens(CONTENT)
PUBLISHED = {PTB_NAMES[split]: text.encode() for split, text in CONTENT.items()}


class SmallPennTreebank(PennTreebankDataModule):
    """The same on short texts."""

    n_tokens: ClassVar[Mapping[Split, int] | None] = COUNTS
    n_words: ClassVar[int | None] = len(WORDS) + 1
    checksums: ClassVar[Mapping[str, str]] = {name: md5(content) for name, content in PUBLISHED.items()}


@pytest.fixture(autouse=True)
def _no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("LIGHTNING_ADVDROP_DATA", raising=False)
    monkeypatch.setenv("LIGHTNING_ADVDROP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ptb(tmp_path, CONTENT)
    return tmp_path


def ready(root: Path, **arguments: Any) -> SmallPennTreebank:
    data = SmallPennTreebank(root, **arguments)
    data.prepare_data()
    data.setup(None)
    return data


def test_the_splits_are_those_of_the_files(root: Path) -> None:
    data = ready(root)
    for split in SPLITS:
        words = [data.vocabulary.words[number] for number in data.text(split)]
        assert words == CONTENT[split].replace("\n", " <eos> ").split()


def test_root_comes_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", str(root))
    data = SmallPennTreebank()
    assert data.folder == root / "ptb"
    data.prepare_data()


@pytest.mark.parametrize("step", ["prepare_data", "setup"])
def test_missing_files_are_named(root: Path, step: str) -> None:
    for name in ("ptb.train.txt", "ptb.test.txt"):
        (root / "ptb" / name).unlink()
    message = (
        f"Penn Treebank files are missing: looked for {root}/ptb/ptb.train.txt, {root}/ptb/ptb.test.txt; put them"
        " there, name another folder with root or the environment variable LIGHTNING_ADVDROP_DATA, or set download=True"
    )
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        getattr(SmallPennTreebank(root), step)()


@pytest.mark.parametrize("split", SPLITS)
def test_other_texts_are_refused_with_the_numbers(root: Path, split: Split) -> None:
    path = root / "ptb" / PTB_NAMES[split]
    path.write_text(CONTENT[split] + "one more\n")
    message = (
        f"{path} is not the published {split} text: found {COUNTS[split] + 3} tokens, expected {COUNTS[split]}; put the"
        " published file in its place"
    )
    with pytest.raises(DocumentError, match=f"^{re.escape(message)}$"):
        SmallPennTreebank(root).prepare_data()


def test_other_words_are_refused_with_the_numbers(root: Path) -> None:
    path = root / "ptb" / "ptb.train.txt"
    path.write_text(CONTENT["train"].replace("market", "bank"))
    message = (
        f"{path} is not the published train text: found 10 words in its vocabulary, expected 11; put the published file"
        " in its place"
    )
    with pytest.raises(DocumentError, match=f"^{re.escape(message)}$"):
        SmallPennTreebank(root).prepare_data()


def test_a_smaller_vocabulary_is_not_the_published_one(root: Path) -> None:
    data, whole = ready(root, max_words=3), ready(root)
    assert data.vocabulary.words == whole.vocabulary.words[:5]
    assert len(data.text("test")) == COUNTS["test"]
    assert data.text("test").tolist() == [number if number < 5 else 0 for number in whole.text("test")]
    assert sum(data.vocabulary.counts) == COUNTS["train"]


def test_numbers_are_checked_even_if_they_were_kept_for_others(root: Path) -> None:
    ready(root)
    with pytest.raises(DocumentError, match="expected 929,589"):
        PennTreebankDataModule(root).prepare_data()


def test_download_fetches_what_is_missing(root: Path) -> None:
    missing = "ptb.valid.txt"
    (root / "ptb" / missing).unlink()
    with mirror({}, "missing") as first, mirror(PUBLISHED) as second:
        data = ready(root, download=True, mirrors=[first.address, second.address])
        data.prepare_data()
    assert first.requests == second.requests == [missing]
    assert (root / "ptb" / missing).read_bytes() == PUBLISHED[missing]


def test_download_into_an_empty_root(tmp_path: Path) -> None:
    with mirror(PUBLISHED) as good:
        ready(tmp_path / "new", download=True, mirrors=[good.address])
    assert sorted(path.name for path in (tmp_path / "new" / "ptb").iterdir()) == sorted(PUBLISHED)


@pytest.mark.parametrize("behaviour", ["truncated", "corrupted", "missing"])
def test_a_bad_download_leaves_nothing(tmp_path: Path, behaviour: Any) -> None:
    with (
        mirror(PUBLISHED, behaviour) as bad,
        pytest.raises(DownloadError, match=r"No mirror delivered ptb\.train\.txt"),
    ):
        SmallPennTreebank(tmp_path, download=True, mirrors=[bad.address]).prepare_data()
    assert list((tmp_path / "ptb").iterdir()) == []


def test_download_checks_the_published_checksum(tmp_path: Path) -> None:
    with (
        mirror(PUBLISHED) as small,
        pytest.raises(DownloadError, match=r"expected md5:f26c4b92c5fdc7b3f8c7cdcb991d8420 but got"),
    ):
        PennTreebankDataModule(tmp_path, download=True, mirrors=[small.address]).prepare_data()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mirrors": []}, "mirrors must be a list of at least one base address, got []"),
        ({"root": ""}, "root must name a folder or be None, got ''"),
        ({"train_tokens": 0}, "train_tokens must be an integer of at least 2, got 0"),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        PennTreebankDataModule(**arguments)


def test_published_facts() -> None:
    data = PennTreebankDataModule()
    assert data.n_tokens == {"train": 929_589, "validation": 73_760, "test": 82_430}
    assert data.n_words == 10_000
    assert data.mirrors == PENN_TREEBANK_MIRRORS
    assert list(data.checksums) == list(PUBLISHED)
    assert (data.batch_size, data.eval_batch_size, data.test_batch_size, data.length) == (20, 10, 1, 70)
    assert data.random_lengths


@pytest.mark.real_data
def test_real_files(real_data_root: Path) -> None:
    data = PennTreebankDataModule(real_data_root)
    data.prepare_data()
    data.setup("fit")
    assert [len(data.text(split)) for split in SPLITS] == [929_589, 73_760, 82_430]
    assert len(data.vocabulary) == 10_000
    assert data.vocabulary.words[:5] == ["<unk>", "<eos>", "the", "N", "of"]
    assert data.vocabulary.counts[:2] == [45_020, 42_068]
    assert sum(data.vocabulary.counts) == 929_589
    first = [data.vocabulary.words[number] for number in data.text("validation")[:6]]
    assert first == ["consumers", "may", "want", "to", "move", "their"]
    for name, checksum in data.checksums.items():
        assert md5((data.folder / name).read_bytes()) == checksum
    loader = data.train_dataloader()
    assert loader.num_steps == 46_479
    assert next(iter(loader))[0].shape[1] == 20
    assert len(data.val_dataloader()) == 106
    assert len(data.test_dataloader()) == 1178

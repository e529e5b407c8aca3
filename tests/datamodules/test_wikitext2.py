import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lightning_advdrop import WikiText2DataModule
from lightning_advdrop.datamodules.corpus import SPLITS, Split
from lightning_advdrop.datamodules.downloads import DownloadError
from lightning_advdrop.datamodules.text_files import DocumentError
from lightning_advdrop.datamodules.wikitext2 import WIKITEXT2_MIRRORS
from tests.helpers.corpora import (
    WIKITEXT2_ARCHIVE,
    WIKITEXT2_NAMES,
    WIKITEXT2_UNPACKED,
    WORDS,
    n_tokens,
    texts,
    wikitext2_archive,
    write_wikitext2,
    zipped,
)
from tests.helpers.idx_files import md5
from tests.helpers.servers import mirror

CONTENT = texts()
COUNTS = n_tokens(CONTENT)
PUBLISHED = {WIKITEXT2_ARCHIVE: wikitext2_archive(CONTENT)}


class SmallWikiText2(WikiText2DataModule):
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
    write_wikitext2(tmp_path, CONTENT)
    return tmp_path


def ready(root: Path, **arguments: Any) -> SmallWikiText2:
    data = SmallWikiText2(root, **arguments)
    data.prepare_data()
    data.setup(None)
    return data


def words_of(data: WikiText2DataModule, split: Split) -> list[str]:
    return [data.vocabulary.words[number] for number in data.text(split)]


def test_the_splits_are_those_of_the_archive(root: Path) -> None:
    data = ready(root)
    for split in SPLITS:
        assert words_of(data, split) == CONTENT[split].replace("\n", " <eos> ").split()
    assert [path.name for path in (root / "wikitext-2").iterdir()] == [WIKITEXT2_ARCHIVE]


def test_unpacked_files_are_preferred_if_all_are_there(root: Path) -> None:
    content = texts(seed=1)
    for split, name in zip(SPLITS, WIKITEXT2_UNPACKED, strict=True):
        data = SmallWikiText2(root)
        assert {source.path.name for source in data.sources().values()} == {WIKITEXT2_ARCHIVE}
        (root / "wikitext-2" / name).write_text(content[split])

    class Other(SmallWikiText2):
        n_tokens: ClassVar[Mapping[Split, int] | None] = n_tokens(content)

    other = Other(root)
    other.setup("test")
    assert words_of(other, "test") == content["test"].replace("\n", " <eos> ").split()
    assert words_of(other, "test") != CONTENT["test"].replace("\n", " <eos> ").split()


def test_root_comes_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", str(root))
    data = SmallWikiText2()
    assert data.folder == root / "wikitext-2"
    data.prepare_data()


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    message = (
        f"WikiText-2 files are missing: looked for {tmp_path}/wikitext-2/wikitext-2-v1.zip; put them there, name"
        " another folder with root or the environment variable LIGHTNING_ADVDROP_DATA, or set download=True"
    )
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        SmallWikiText2(tmp_path).prepare_data()


def test_a_missing_split_is_named(root: Path) -> None:
    path = root / "wikitext-2" / WIKITEXT2_ARCHIVE
    path.write_bytes(zipped({name: CONTENT[split] for split, name in WIKITEXT2_NAMES.items() if split != "validation"}))
    message = f"{path} lacks wikitext-2/wiki.valid.tokens; delete the file and download it again"
    with pytest.raises(DocumentError, match=f"^{re.escape(message)}$"):
        SmallWikiText2(root).prepare_data()


def test_a_truncated_archive_is_named(root: Path) -> None:
    path = root / "wikitext-2" / WIKITEXT2_ARCHIVE
    path.write_bytes(PUBLISHED[WIKITEXT2_ARCHIVE][:-40])
    pattern = rf"^{re.escape(f'{path} (wikitext-2/wiki.train.tokens) cannot be unpacked (')}.+; delete the file and"
    with pytest.raises(DocumentError, match=pattern):
        SmallWikiText2(root).prepare_data()


def test_other_texts_are_refused_with_the_numbers(root: Path) -> None:
    write_wikitext2(root, {**CONTENT, "test": "short \n"})
    path = root / "wikitext-2" / WIKITEXT2_ARCHIVE
    message = (
        f"{path} (wikitext-2/wiki.test.tokens) is not the published test text: found 2 tokens, expected"
        f" {COUNTS['test']}; put the published file in its place"
    )
    with pytest.raises(DocumentError, match=f"^{re.escape(message)}$"):
        SmallWikiText2(root).prepare_data()


def test_local_archives_may_be_packed_anew(root: Path) -> None:
    path = root / "wikitext-2" / WIKITEXT2_ARCHIVE
    path.write_bytes(zipped({"readme": "packed anew", **{WIKITEXT2_NAMES[split]: CONTENT[split] for split in SPLITS}}))
    assert md5(path.read_bytes()) != SmallWikiText2.checksums[WIKITEXT2_ARCHIVE]
    ready(root)


def test_download(tmp_path: Path) -> None:
    with mirror({}, "missing") as first, mirror(PUBLISHED) as second:
        data = ready(tmp_path, download=True, mirrors=[first.address, second.address])
        data.prepare_data()
    assert first.requests == second.requests == [WIKITEXT2_ARCHIVE]
    # The published place refuses the default agents of libraries.
    assert all(agent.startswith("lightning-advdrop") for agent in second.user_agents)
    assert (tmp_path / "wikitext-2" / WIKITEXT2_ARCHIVE).read_bytes() == PUBLISHED[WIKITEXT2_ARCHIVE]


def test_download_checks_the_published_checksum(tmp_path: Path) -> None:
    with (
        mirror(PUBLISHED) as small,
        pytest.raises(DownloadError, match=r"expected md5:542ccefacc6c27f945fb54453812b3cd but got"),
    ):
        WikiText2DataModule(tmp_path, download=True, mirrors=[small.address]).prepare_data()
    assert list((tmp_path / "wikitext-2").iterdir()) == []


def test_published_facts() -> None:
    data = WikiText2DataModule()
    assert data.n_tokens == {"train": 2_088_628, "validation": 217_646, "test": 245_569}
    assert data.n_words == 33_278
    assert data.mirrors == WIKITEXT2_MIRRORS
    assert list(data.checksums) == [WIKITEXT2_ARCHIVE]
    assert (data.batch_size, data.eval_batch_size, data.test_batch_size, data.length) == (20, 10, 1, 70)


@pytest.mark.real_data
def test_real_files(real_data_root: Path) -> None:
    data = WikiText2DataModule(real_data_root)
    data.prepare_data()
    data.setup("fit")
    assert [len(data.text(split)) for split in SPLITS] == [2_088_628, 217_646, 245_569]
    assert len(data.vocabulary) == 33_278
    assert data.vocabulary.words[:5] == ["<unk>", "<eos>", "the", ",", "."]
    assert data.vocabulary.counts[:2] == [54_625, 36_718]
    assert sum(data.vocabulary.counts) == 2_088_628
    assert words_of(data, "validation")[:7] == ["<eos>", "=", "Homarus", "gammarus", "=", "<eos>", "<eos>"]

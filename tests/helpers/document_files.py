"""Writing small files of documents in the formats in which IMDB, Elec and RCV1 are published."""

from __future__ import annotations

import csv
import io
import os
import random
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_advdrop.datamodules import Document, DocumentDataModule, DocumentError, IMDBDataModule
from lightning_advdrop.datamodules.encoding import Corpus
from lightning_advdrop.datamodules.text_batches import UNLABELLED
from tests.helpers.messages import refused

WORDS = {
    0: ["bad", "boring", "Awful", "worse", "dull", "waste"],
    1: ["good", "great", "Superb", "best", "moving", "gem"],
    UNLABELLED: ["the", "a", "film", "It", "plot", "was", "actors", "and", "of", "scene"],
}
"""By label the words that tell it, and those that all documents have."""

Texts = Mapping[str, Sequence[tuple[int, str]]]
"""By part ("train", "test", "unlabelled"): labels and texts."""


class SmallIMDB(IMDBDataModule):
    """The data module of IMDB for files of any number of reviews."""

    n_documents = None


class Sizes(NamedTuple):
    train: int = 20
    test: int = 6
    unlabelled: int = 12


def make_texts(sizes: Sizes = Sizes(), classes: int = 2, seed: int = 0, longest: int = 14) -> Texts:  # noqa: B008
    """Texts of words and punctuation, whose labels take turns."""
    rng = random.Random(seed)

    def text(label: int) -> str:
        common = rng.choices(WORDS[UNLABELLED], k=rng.randint(2, longest - 2))
        telling = rng.choices(WORDS[label % 2] + [f"topic{label}"], k=2)
        words = [*common, *telling]
        rng.shuffle(words)
        return "".join(word + rng.choice([" ", ", ", "... ", " <br />"]) for word in words) + "!"

    parts: dict[str, list[tuple[int, str]]] = {
        part: [(number % classes, text(number % classes)) for number in range(size)]
        for part, size in sizes._asdict().items()
    }
    parts["unlabelled"] = [(UNLABELLED, text) for _, text in parts["unlabelled"]]
    return parts


def encoded_content(corpus: Corpus) -> tuple[object, ...]:
    """The words and their counts, and the labels and word numbers of the documents of each part in their order."""
    parts = {
        part: [(int(label), documents[number].tolist()) for number, label in enumerate(documents.labels)]
        for part, documents in corpus.parts.items()
    }
    return corpus.vocabulary.words, corpus.vocabulary.counts, parts


def imdb_files(texts: Texts) -> dict[str, bytes]:
    """The content of each review's file by its path, and some of the files that are published beside them."""
    files = {"aclImdb/README": b"About", "aclImdb/imdb.vocab": b"the\n", "aclImdb/train/labeledBow.feat": b"9 0:9\n"}
    folders = {0: "neg", 1: "pos", UNLABELLED: "unsup"}
    for part, documents in texts.items():
        place = "test" if part == "test" else "train"
        for number, (label, text) in enumerate(documents):
            stars = {0: 2, 1: 9, UNLABELLED: 0}[label]
            files[f"aclImdb/{place}/{folders[label]}/{number}_{stars}.txt"] = text.encode()
    return files


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    """An archive of files; the same files always give the same archive, apart from the time in gzip's header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_imdb(root: Path, texts: Texts, unpacked: bool = False) -> Path:
    """Write the archive, or the folder that it unpacks to; returns which."""
    folder = root / "imdb"
    folder.mkdir(parents=True, exist_ok=True)
    if not unpacked:
        archive = folder / "aclImdb_v1.tar.gz"
        archive.write_bytes(tar_gz(imdb_files(texts)))
        return archive
    for name, content in imdb_files(texts).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "aclImdb"


def elec_files(documents: Iterable[Document]) -> dict[str, bytes]:
    """The content of Elec's files by name, for documents in this order: one a line, labels 1 and 2."""
    files = dict.fromkeys(
        (
            "elec-25k-train.txt.tok",
            "elec-25k-train.cat",
            "elec-test.txt.tok",
            "elec-test.cat",
            "elec-200k-unlab.txt.tok",
        ),
        b"",
    )
    names = {"train": "elec-25k-train", "test": "elec-test", "unlabelled": "elec-200k-unlab"}
    for document in documents:
        name = names[document.part]
        files[f"{name}.txt.tok"] += " ".join(document.words).encode() + b"\n"
        if document.label != UNLABELLED:
            files[f"{name}.cat"] += f"{document.label + 1}\n".encode()
    return files


def as_documents(texts: Texts) -> list[Document]:
    """The documents, split at blanks: words with the punctuation at their ends."""
    return [
        Document(part, label, number, text.split())  # type: ignore[arg-type]
        for part, documents in texts.items()
        for number, (label, text) in enumerate(documents)
    ]


def write_elec(root: Path, documents: Iterable[Document]) -> Path:
    """Write Elec's files; returns their folder. With what `SmallIMDB` reads, it converts IMDB to this format."""
    folder = root / "elec"
    folder.mkdir(parents=True, exist_ok=True)
    in_order = sorted(documents, key=lambda document: document.key)
    for name, content in elec_files(in_order).items():
        (folder / name).write_bytes(content)
    return folder


def check_refused(module: DocumentDataModule, *parts: object) -> None:
    """What the message about bad data names; nothing of them is kept."""
    with refused(*parts, error=DocumentError):
        module.prepare_data()
    assert not [path for path in Path(os.environ["LIGHTNING_ADVDROP_CACHE"]).iterdir() if path.is_dir()]


def spoil_line(path: Path, line: int, content: bytes) -> None:
    """Replace a line, counted from 1, of a file."""
    lines = path.read_bytes().splitlines()
    lines[line - 1] = content
    path.write_bytes(b"\n".join([*lines, b""]))


def write_rcv1(root: Path, texts: Texts) -> Path:
    """Write RCV1's files; returns their folder."""
    folder = root / "rcv1"
    folder.mkdir(parents=True, exist_ok=True)
    for part, documents in texts.items():
        name = "unlab" if part == "unlabelled" else part
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows((max(label, 0), text) for label, text in documents)
    return folder

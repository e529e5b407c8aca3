"""Small texts in the published formats of the Penn Treebank and WikiText-2."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lightning_advdrop.datamodules.corpus import Split

WORDS = ("the", "of", "a", "<unk>", "N", "market", "said", "bank", "share", "year")

PTB_NAMES: Mapping[Split, str] = {
    "train": "ptb.train.txt",
    "validation": "ptb.valid.txt",
    "test": "ptb.test.txt",
}
WIKITEXT2_NAMES: Mapping[Split, str] = {
    "train": "wikitext-2/wiki.train.tokens",
    "validation": "wikitext-2/wiki.valid.tokens",
    "test": "wikitext-2/wiki.test.tokens",
}
TEXT_FILES: Mapping[Split, str] = {
    "train": "text/train.txt",
    "validation": "text/validation.txt",
    "test": "text/test.txt",
}
WIKITEXT2_ARCHIVE = "wikitext-2-v1.zip"
WIKITEXT2_UNPACKED = ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")


def texts(n_train: int = 60, n_validation: int = 20, n_test: int = 20, seed: int = 0) -> dict[Split, str]:
    """Lines of 1 to 9 random words between single spaces, as in PTB, each of `WORDS` occurring in the first text.

    Args:
        n_train: Lines of the text for training; the others accordingly.
    """
    rng = np.random.default_rng(seed)

    def lines(count: int) -> str:
        return "".join(f" {' '.join(rng.choice(WORDS, rng.integers(1, 10)))} \n" for _ in range(count))

    return {
        "train": f" {' '.join(WORDS)} \n" + lines(n_train - 1),
        "validation": lines(n_validation),
        "test": lines(n_test),
    }


def n_tokens(content: Mapping[Split, str]) -> dict[Split, int]:
    """Words, with one more for each line."""
    return {split: len(text.split()) + text.count("\n") for split, text in content.items()}


def write_ptb(root: Path, content: Mapping[Split, str]) -> None:
    folder = root / "ptb"
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in content.items():
        (folder / PTB_NAMES[split]).write_text(text, encoding="utf-8")


def write_text_files(root: Path, content: Mapping[Split, str]) -> None:
    (root / "text").mkdir(parents=True, exist_ok=True)
    for split, text in content.items():
        (root / TEXT_FILES[split]).write_text(text, encoding="utf-8")


def zipped(content: Mapping[str, str | bytes]) -> bytes:
    """A zip archive that is the same for the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def wikitext2_archive(content: Mapping[Split, str]) -> bytes:
    return zipped({WIKITEXT2_NAMES[split]: text for split, text in content.items()})


def write_wikitext2(root: Path, content: Mapping[Split, str]) -> None:
    folder = root / "wikitext-2"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WIKITEXT2_ARCHIVE).write_bytes(wikitext2_archive(content))

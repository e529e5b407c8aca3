from __future__ import annotations

import gzip
import ssl
from pathlib import Path

import pytest
import torch

from lightning_advdrop.datamodules import Vocabulary
from lightning_advdrop.datamodules.vectors import load_vectors
from tests.helpers.messages import refused

VOCABULARY = Vocabulary(["<unk>", "good", "Café", "bad"], [0, 3, 2, 1], unknown="<unk>")
TEXT = "bad 1 2 3\nother 9 9 9\nCafé 0.5 -1 1e-2\n"
EXPECTED = torch.tensor([[0, 0, 0], [0, 0, 0], [0.5, -1, 0.01], [1, 2, 3]])


@pytest.mark.parametrize("header", ["", "3 3\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_vectors_are_looked_up(tmp_path: Path, header: str, packed: bool) -> None:
    path = tmp_path / ("vectors.txt.gz" if packed else "vectors.txt")
    content = f"{header}{TEXT}".encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    torch.testing.assert_close(load_vectors(path, VOCABULARY), EXPECTED)
    assert list(tmp_path.iterdir()) == [path]


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    for value in (1, 2):
        path.write_text(f"bad {value} 2 3\n")
        assert load_vectors(path, VOCABULARY)[3, 0] == value


def test_certificates_are_checked_as_before(tmp_path: Path) -> None:
    before = ssl._create_default_https_context
    (tmp_path / "vectors.txt").write_text(TEXT)
    load_vectors(tmp_path / "vectors.txt", VOCABULARY)
    with refused(__file__, "vectors"):
        load_vectors(Path(__file__), VOCABULARY)
    assert ssl._create_default_https_context is before


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    with refused(path, "missing", error=FileNotFoundError):
        load_vectors(path, VOCABULARY)


@pytest.mark.parametrize(
    "content", [b"", b"bad\n", b"bad 1 2 3\ngood 1 2\n", b"bad one two three\n", b"\x1f\x8b"], ids=range(5)
)
def test_what_holds_no_vectors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("vectors.gz" if content.startswith(b"\x1f") else "vectors.txt")
    path.write_bytes(content)
    with refused(path, "vectors", 3):
        load_vectors(path, VOCABULARY)

"""The command that classifies texts."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from lightning_advdrop.cli import main
from tests.helpers.documents import Documents
from tests.helpers.documents import documents as made_up
from tests.helpers.messages import each_names
from tests.helpers.text_tasks import as_text, saved_classifier


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    _, path = saved_classifier(tmp_path, Documents())
    return path


def test_it_prints_a_label_and_its_probability_for_each_text(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = made_up(20, seed=9)
    capsys.readouterr()
    assert main(["classify", "--ckpt_path", str(checkpoint), *as_text(batch)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(re.fullmatch(r"(negative|positive)\t(0\.[5-9]\d{3}|1\.0000)", line) for line in lines)
    right = [line.startswith("positive") == bool(y) for line, y in zip(lines, batch.labels, strict=True)]
    assert sum(right) > 14


def test_it_reads_lines(checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = as_text(made_up(5, seed=9))
    capsys.readouterr()
    main(["classify", "--ckpt_path", str(checkpoint), *texts])
    given = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(texts) + "\n"))
    assert main(["classify", "--ckpt_path", str(checkpoint), "--batch_size", "2"]) == 0
    assert capsys.readouterr().out == given
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    main(["classify", "--ckpt_path", str(checkpoint)])
    assert capsys.readouterr().out.count("\t") == 1  # an empty line is a text, too


@pytest.mark.parametrize(
    ("options", "content", "parts"),
    [
        ([], b"", ("texts", "input", "none")),
        ([], b"n1\ncaf\xe9\n", ("line 2", "UTF-8", "0xe9")),
        (["--batch_size", "0"], b"n1\n", ("batch_size", 1, 0)),
        (["--ckpt_path", "none"], b"n1\n", ("ckpt_path='none'", "no such file")),
    ],
    ids=["empty", "latin-1", "size", "missing"],
)
def test_what_it_refuses(
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    content: bytes,
    parts: tuple[object, ...],
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))
    capsys.readouterr()
    assert main(["classify", "--ckpt_path", str(checkpoint), *options]) == 2
    assert each_names(capsys.readouterr().err.splitlines(), [("Error", *parts)])

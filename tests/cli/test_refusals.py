"""What the commands say about arguments and files that are not right: one sentence, and nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_advdrop.cli import main
from lightning_advdrop.cli.refusals import TRACEBACK_VARIABLE, refusal
from lightning_advdrop.functional import kl_divergence
from tests.helpers.document_files import as_documents, make_texts, write_elec, write_imdb, write_rcv1
from tests.helpers.messages import names

CONFIGS = Path(__file__).parents[2] / "configs"
DIGITS = ("fit", "--config", str(CONFIGS / "quickstart.yaml"), "--trainer.max_epochs", "1")
TEXTS = make_texts()

pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


def says(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("Error: ")
    return last


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("regularizer.init_args.rate", "1.5", ("rate", "[0, 1]", 1.5)),
        ("regularizer.init_args.sites", "everywhere", ("sites", "'everywhere'")),
        ("regularizer.init_args.sites", "embedding", ("sites", "'embedding'", "none")),
        ("model.init_args.hidden_size", "0", ("hidden_size", 1, 0)),
        ("data.init_args.train_size", "100000", ("train_size", 1, 1297, 100000)),
    ],
)
def test_arguments(option: str, value: str, parts: tuple[object, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(names("Error", *parts), says(capsys, *DIGITS, f"--{option}", value))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _second_line(path: Path, content: bytes) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], content, *lines[2:], b""]))


def _elec(root: Path) -> Path:
    return write_elec(root, as_documents(TEXTS))


def _imdb(root: Path) -> Path:
    return write_imdb(root, TEXTS)


def _rcv1(root: Path) -> Path:
    return write_rcv1(root, make_texts(classes=4))


@pytest.mark.parametrize(
    ("config", "write", "name", "spoil", "parts"),
    [
        ("imdb_small", _imdb, "imdb/aclImdb_v1.tar.gz", _cut, ("truncated",)),
        ("elec", _elec, "elec/elec-25k-train.cat", lambda path: _second_line(path, b"3"), ("line 2", "label")),
        ("elec", _elec, "elec/elec-test.txt.tok", lambda path: _second_line(path, b"a\xe9"), ("line 2", "byte")),
        ("rcv1", _rcv1, "rcv1/train.csv", lambda path: _second_line(path, b"1"), ("line 2", "1 columns")),
        ("rcv1", _rcv1, "rcv1/unlab.csv", lambda path: _second_line(path, b'0,""'), ("line 2", "without a word")),
        ("rcv1", _rcv1, "rcv1/test.csv", Path.unlink, ()),
    ],
)
def test_files_of_documents(
    config: str,
    write: Callable[[Path], Path],
    name: str,
    spoil: Callable[[Path], object],
    parts: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LIGHTNING_ADVDROP_CACHE", str(tmp_path / "cache"))
    write(tmp_path)
    spoil(tmp_path / name)
    said = says(
        capsys,
        *("fit", "--config", str(CONFIGS / f"{config}.yaml"), "--data.init_args.root", str(tmp_path)),
        *("--trainer.accelerator", "cpu", "--model.init_args.pretrained", "null"),
    )
    assert re.search(names(tmp_path / name, *parts), said)
    assert not [path for path in (tmp_path / "cache").glob("*") if path.is_dir()]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"], ids=["empty", "truncated"])
def test_a_checkpoint_that_is_not_whole(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    said = says(capsys, "test", *DIGITS[1:], "--ckpt_path", str(path))
    assert re.search(names(f"ckpt_path='{path}'", "truncated"), said)
    path.unlink()
    assert str(path) in says(capsys, "test", *DIGITS[1:], "--ckpt_path", str(path))


def test_what_may_be_a_mistake_in_code_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(function: Callable[[], object]) -> Exception:
        with pytest.raises(Exception, match=r"\w") as info:
            function()
        return info.value

    ours = caught(lambda: kl_divergence(torch.zeros(2, 3), torch.zeros(2, 4)))
    assert refusal(ours) is not None
    assert refusal(caught(lambda: int("one"))) is None
    assert refusal(caught(lambda: torch.zeros(2) @ torch.zeros(3))) is None
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    assert refusal(ours) is None
    assert refusal(FileNotFoundError("runs/last.ckpt")) is None

"""Trained models that are loaded from checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_advdrop.tasks import LanguageModelingTask, SequentialMNISTTask, load_language_model, load_text_classifier
from tests.helpers.language_models import trained
from tests.helpers.plain_models import quiet_trainer

each_loader = pytest.mark.parametrize("load", [load_language_model, load_text_classifier])
pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


def test_a_checkpoint_has_all_that_is_needed(tmp_path: Path) -> None:
    _, path = trained(tmp_path)
    task = load_language_model(path)
    assert not task.training
    assert task.vocabulary is not None
    assert task.vocabulary.words[:2] == ["<unk>", "<eos>"]
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in task.state_dict().items())


@each_loader
def test_a_missing_file_is_refused(load: Callable[[str | Path], object]) -> None:
    for kind in (FileNotFoundError, ValueError):
        with pytest.raises(kind, match=re.escape("ckpt_path='no.ckpt' must be a checkpoint file, got no such file.")):
            load("no.ckpt")


def saved(path: Path, module: Any) -> Path:
    trainer = quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


@each_loader
def test_another_kind_of_task_is_refused(load: Callable[[str | Path], object], tmp_path: Path) -> None:
    path = saved(tmp_path / "images.ckpt", SequentialMNISTTask(hidden_size=3))
    torch.save([1, 2], tmp_path / "list.ckpt")
    for each in (path, tmp_path / "list.ckpt"):
        with pytest.raises(ValueError, match=rf"^ckpt_path='{each}' must be a checkpoint of \w+Task, got"):
            load(each)


def test_a_model_without_words_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "bare.ckpt", LanguageModelingTask(5, 3, 4, 2))
    with pytest.raises(ValueError, match=r"ckpt_path='.*bare.ckpt' must be .* with a vocabulary"):
        load_language_model(path)


@each_loader
@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"], ids=["empty", "text", "cut"])
def test_what_is_no_checkpoint_is_refused(load: Callable[[str | Path], object], content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"^ckpt_path='.*' must be a checkpoint file, got one that can't be read"):
        load(tmp_path / "file.ckpt")

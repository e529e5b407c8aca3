"""Language models that are loaded from checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_advdrop.tasks import LanguageModelingTask, SequentialMNISTTask, load_language_model
from tests.helpers.language_models import trained
from tests.helpers.plain_models import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


def test_a_checkpoint_has_all_that_is_needed(tmp_path: Path) -> None:
    _, path = trained(tmp_path)
    task = load_language_model(path)
    assert not task.training
    assert task.vocabulary is not None
    assert task.vocabulary.words[:2] == ["<unk>", "<eos>"]
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in task.state_dict().items())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    message = "ckpt_path='no.ckpt' must be a checkpoint file, got no such file."
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        load_language_model("no.ckpt")


def saved(path: Path, module: Any) -> Path:
    trainer = quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def test_another_kind_of_task_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "images.ckpt", SequentialMNISTTask(hidden_size=3))
    with pytest.raises(ValueError, match=r"^ckpt_path='.*images.ckpt' must be .* of LanguageModelingTask, got one"):
        load_language_model(path)


def test_a_model_without_words_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "bare.ckpt", LanguageModelingTask(5, 3, 4, 2))
    with pytest.raises(ValueError, match=r"ckpt_path='.*bare.ckpt' must be .* with a vocabulary"):
        load_language_model(path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"], ids=["empty", "text", "cut"])
def test_what_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"^ckpt_path='.*' must be a checkpoint file, got one that can't be read"):
        load_language_model(tmp_path / "file.ckpt")


def test_what_holds_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match="got one of another kind"):
        load_language_model(tmp_path / "list.ckpt")

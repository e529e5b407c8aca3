"""Checkpoints are whole, also where the process is killed while it writes one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_advdrop.checkpoint_files import AtomicCheckpointIO
from lightning_advdrop.cli.resuming import is_whole
from lightning_advdrop.files import writing
from tests.helpers.full_disk import largest_file
from tests.helpers.killing import killed_while_saving
from tests.helpers.messages import refused

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_place(content: Any, path: Path) -> None:
    torch.save(content, path)


@forks
@pytest.mark.parametrize("atomic", [True, False])
def test_a_kill_in_the_middle_of_a_write_leaves_the_file_before(atomic: bool, tmp_path: Path) -> None:
    """Written in place, half a file is left."""
    path = tmp_path / "folder" / "last.ckpt"
    save = AtomicCheckpointIO().save_checkpoint if atomic else in_place
    path.parent.mkdir()
    save({"step": 1}, path)
    killed_while_saving(lambda: save({"step": 2}, path), save=1)
    assert is_whole(path) == atomic
    if atomic:
        assert torch.load(path, weights_only=True) == {"step": 1}
        [left] = [file.name for file in path.parent.iterdir() if file != path]
        assert left.startswith(".last.ckpt.")
        assert left.endswith(".part")


def test_folders_are_made_and_files_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "last.ckpt"
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"step": step}, path)
        assert AtomicCheckpointIO().load_checkpoint(path, weights_only=True) == {"step": step}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_an_error_in_writing_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(AttributeError, match="local object"):
        AtomicCheckpointIO().save_checkpoint({"step": lambda: 2}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(path, weights_only=True) == {"step": 1}


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("numbers", [10, 10_000])
def test_no_room_is_told_with_the_path_wherever_it_ends(numbers: int, share: float, tmp_path: Path) -> None:
    """Torch may raise an error of its own in place of the system's."""
    path, content = tmp_path / "last.ckpt", {"weight": torch.linspace(0, 1, numbers)}
    AtomicCheckpointIO().save_checkpoint(content, path)
    before = path.read_bytes()
    with largest_file(int(len(before) * share)):
        expected = refused(path, "cannot be written", os.strerror(errno.EFBIG), "make room", error=OSError)
        with expected as caught:
            AtomicCheckpointIO().save_checkpoint(content, path)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_errors_of_other_kinds_stay_as_they_are(tmp_path: Path) -> None:
    """Also while an error of the system is handled, as where a run that failed writes a last checkpoint."""
    with pytest.raises(RuntimeError, match="no file's"), writing(tmp_path):
        raise RuntimeError("no file's")
    try:
        Path(tmp_path, "none").read_text()
    except FileNotFoundError:
        with pytest.raises(RuntimeError, match="no file's"), writing(tmp_path):
            raise RuntimeError("no file's") from None


def test_other_places_and_options_are_left_to_lightning() -> None:
    AtomicCheckpointIO().save_checkpoint({"step": 1}, "memory://folder/last.ckpt")
    assert AtomicCheckpointIO().load_checkpoint("memory://folder/last.ckpt", weights_only=True) == {"step": 1}
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint({}, "last.ckpt", storage_options={})

"""The best checkpoint survives a resume into a new folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_advdrop import KeepBest
from tests.helpers.averaging_models import STEPS_AN_EPOCH, Scripted, averaged_fit
from tests.helpers.full_disk import largest_file
from tests.helpers.messages import refused
from tests.helpers.releases import SAFE

SCRIPT = (3.0, 1.0, 2.5, 2.25)  # the second epoch is the best


def fit(folder: Path, epochs: int, *more: Callback, ckpt_path: Path | None = None, **saving: Any) -> Any:
    """Train; return the trainer. The first checkpoint callback keeps the best, the second the last."""
    best = ModelCheckpoint(folder, "best-{epoch}", monitor="val/loss", **saving)
    last = ModelCheckpoint(folder, "last", enable_version_counter=False)
    return averaged_fit(Scripted(SCRIPT), *more, best, last, max_epochs=epochs, ckpt_path=ckpt_path)


def steps(path: str) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:.*with Trainer configured with multiple")
def test_worse_models_after_a_resume_are_not_the_best(keep: bool, tmp_path: Path) -> None:
    """Without the callback they are: the third epoch's, of 2.5, replaces the second's, of 1.0."""
    fit(tmp_path / "one", 2)
    more = [KeepBest()] if keep else []
    trainer = fit(tmp_path / "two", 4, *more, ckpt_path=tmp_path / "one" / "last.ckpt")
    best = trainer.checkpoint_callback
    assert (float(best.best_model_score), steps(best.best_model_path)) == (
        (1.0, 2 * STEPS_AN_EPOCH) if keep else (2.25, 4 * STEPS_AN_EPOCH)
    )
    model = trainer.lightning_module
    trainer.test(model, ckpt_path="best", verbose=False, **SAFE)
    saved = torch.load(tmp_path / "one" / "best-epoch=1.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items()) == keep


def test_a_better_model_replaces_the_copy_and_the_first_folder_stays(tmp_path: Path) -> None:
    fit(tmp_path / "one", 1)
    trainer = fit(tmp_path / "two", 4, KeepBest(), ckpt_path=tmp_path / "one" / "last.ckpt")
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"best-epoch=1.ckpt", "last.ckpt"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"best-epoch=0.ckpt", "last.ckpt"}
    assert float(trainer.checkpoint_callback.best_model_score) == 1.0


@pytest.mark.parametrize(("mode", "kept"), [("min", [1.0, 2.25]), ("max", [3.0, 2.5])])
def test_of_several_best_ones_the_worst_goes_first(mode: str, kept: list[float], tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", 4, save_top_k=2, mode=mode)
    fit(tmp_path / "one", 3, save_top_k=2, mode=mode)
    trainer = fit(tmp_path / "two", 4, KeepBest(), save_top_k=2, mode=mode, ckpt_path=tmp_path / "one" / "last.ckpt")
    scores = {Path(path).name: float(score) for path, score in trainer.checkpoint_callback.best_k_models.items()}
    assert sorted(scores.values()) == sorted(kept)
    wanted = whole.checkpoint_callback.best_k_models
    assert scores == {Path(path).name: float(score) for path, score in wanted.items()}
    assert {path.name for path in (tmp_path / "two").iterdir()} == {*scores, "last.ckpt"}


def test_files_in_subfolders_do_not_replace_each_other(tmp_path: Path) -> None:
    """A slash in the metric's name makes them, so that files of several epochs have one name."""

    def run(folder: str, epochs: int, *more: Callback, ckpt_path: Path | None = None) -> Any:
        best = ModelCheckpoint(tmp_path / folder, "{epoch}-{val/loss:.0f}", monitor="val/loss", save_top_k=2)
        last = ModelCheckpoint(tmp_path / folder, "last", enable_version_counter=False)
        model = Scripted((1.25, 1.0, 3.0))
        averaged_fit(model, *more, best, last, max_epochs=epochs, ckpt_path=ckpt_path)
        return best

    first = run("one", 2)
    assert len({Path(path).name for path in first.best_k_models}) == 1
    found = run("two", 3, KeepBest(), ckpt_path=tmp_path / "one" / "last.ckpt")
    for best, folder in ((first, "one"), (found, "two")):
        scores = {Path(path).relative_to(tmp_path / folder): float(s) for path, s in best.best_k_models.items()}
        assert scores == {Path("epoch=0-val/loss=1.ckpt"): 1.25, Path("epoch=1-val/loss=1.ckpt"): 1.0}
        assert [steps(path) for path in best.best_k_models] == [STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH]
    assert steps(found.best_model_path) == 2 * STEPS_AN_EPOCH


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    fit(tmp_path / "one", 2)
    (tmp_path / "one" / "best-epoch=1.ckpt").unlink()
    trainer = fit(tmp_path / "two", 4, KeepBest(), ckpt_path=tmp_path / "one" / "last.ckpt")
    assert float(trainer.checkpoint_callback.best_model_score) == 2.25


def test_the_same_folder_is_left_to_lightning(tmp_path: Path) -> None:
    fit(tmp_path / "one", 2)
    shutil.copy(tmp_path / "one" / "last.ckpt", tmp_path / "from.ckpt")
    with pytest.warns(UserWarning, match="exists and is not empty"):
        trainer = fit(tmp_path / "one", 4, KeepBest(), ckpt_path=tmp_path / "from.ckpt")
    assert float(trainer.checkpoint_callback.best_model_score) == 1.0


def test_no_room_for_the_copy_is_told_with_its_path(tmp_path: Path) -> None:
    fit(tmp_path / "one", 2)
    copy = tmp_path / "two" / "best-epoch=1.ckpt"
    with largest_file(100), refused(copy, "cannot be written", "make room", error=OSError):
        fit(tmp_path / "two", 4, KeepBest(), ckpt_path=tmp_path / "one" / "last.ckpt")
    assert list(copy.parent.iterdir()) == []

"""Resume a run without forgetting the best checkpoint so far."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_advdrop._lightning import checkpoint_callbacks
from lightning_advdrop.callbacks.shown import ShownWithArguments
from lightning_advdrop.files import replacing, writing


class KeepBest(ShownWithArguments, Callback):
    """Let a resumed run that saves to a new folder compare with the best checkpoints of the run before.

    Lightning's ``ModelCheckpoint`` remembers its best scores only where its folder is the same, and a resumed run
    usually logs to a new one: it would take the first model after the resume for the best, and test it. This callback
    copies the best checkpoints to the new folder, with their subfolders, and restores their scores, for every
    ``ModelCheckpoint`` that monitors a metric. Checkpoints that no longer exist are forgotten. Nothing in the old
    folder changes.

    Example:
        >>> from lightning.pytorch.callbacks import ModelCheckpoint
        >>> callbacks = [ModelCheckpoint(monitor="val/loss"), KeepBest()]
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Copy the files, and change the states that the checkpoint callbacks will load."""
        if trainer.state.fn != "fit":
            return
        for callback in checkpoint_callbacks(trainer):
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            if state and callback.dirpath and state["dirpath"] != callback.dirpath:
                existing = [path for path in state["best_k_models"] if Path(path).is_file()]
                places = {path: _place(path, state["dirpath"], callback.dirpath) for path in existing}
                if trainer.is_global_zero:
                    _copy(places)
                trainer.strategy.barrier("KeepBest")
                if places or not callback.monitor:
                    state |= _moved(state, places, callback.mode) | {"dirpath": callback.dirpath, "last_model_path": ""}


def _place(path: str, old: str, new: str) -> str:
    """Return where a file goes: to the same place in the new folder, or right into it if it is not in the old one."""
    # A slash in the name of a metric, as in `{val/loss:.2f}`, makes subfolders, and names in them are often the same.
    inside = Path(path).is_relative_to(old)
    return str(Path(new) / (Path(path).relative_to(old) if inside else Path(path).name))


def _copy(places: Mapping[str, str]) -> None:
    for source, target in places.items():
        with writing(Path(target)):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            with replacing(Path(target)) as partial:
                shutil.copyfile(source, partial)


def _moved(state: Mapping[str, Any], places: Mapping[str, str], mode: str) -> dict[str, Any]:
    """Return what changes in the state of a checkpoint callback whose files have been copied."""
    scores = {places[path]: score for path, score in state["best_k_models"].items() if path in places}
    ordered = sorted(scores, key=lambda path: float(scores[path]), reverse=mode == "max")
    if not ordered:
        return {}
    best, worst = ordered[0], ordered[-1]
    return {
        "best_k_models": scores,
        "best_model_path": best,
        "best_model_score": scores[best],
        "kth_best_model_path": worst,
        "kth_value": scores[worst],
    }

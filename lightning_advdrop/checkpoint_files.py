"""Write checkpoints that are whole whenever the program is ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lightning_advdrop.files import replacing, writing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint beside its place, and rename it when it is complete and on the disk.

    Whenever the program is ended, also by ``SIGKILL``, the file under the checkpoint's name is the one before or the
    new one. Lightning writes to the system's folder for temporary files first; where that is on another file system,
    the move to the checkpoint's place copies, and an interruption leaves half a file in the place of the last good one.
    What an interrupted write leaves behind begins with a dot, ends with ``.part``, and may be deleted.

    The commands add it to the trainer's plugins. Paths other than local ones are written as Lightning does.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu")
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: its content.
            path: its place; folders that don't exist are made.
            storage_options: not allowed.

        Raises:
            TypeError: if ``storage_options`` is given.
            OSError: if the file can't be written, such as for want of room; it names the file.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())

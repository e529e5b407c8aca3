"""Resume a run with the random numbers that it would have drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_advdrop._lightning import count_saved_batch, finish_saved_epoch, schedule_once
from lightning_advdrop.callbacks.processes import of_every_process
from lightning_advdrop.callbacks.shown import ShownWithArguments
from lightning_advdrop.masking import RandomState


class GlobalRandomState(ShownWithArguments, Callback):
    """Save the state of the global random generators in checkpoints, so that a resumed run draws the same dropout.

    Lightning does not save it. The state is restored before the first batch of the resumed fit. A resumed run is then
    the same as one that was never interrupted, if its loaders draw from generators of their own, as those of this
    package do. Each of several processes gets its own state back; a process that was not there when the checkpoint was
    written starts from the seed. What Lightning counts wrongly in a resumed run is mended, too: with ``max_steps`` an
    epoch whose end was saved would count twice, and Lightning 2.4 loses count of batches and steps learning rate
    schedulers twice.

    Example:
        >>> sorted(GlobalRandomState().state_dict())
        ['cpu', 'cuda', 'numpy', 'python']
    """

    def __init__(self) -> None:
        self._loaded: RandomState | None = None
        self._rank = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget what was loaded before and not used."""
        self._loaded, self._rank = None, trainer.global_rank

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the batch or epoch after the one at whose end the checkpoint was saved."""
        finish_saved_epoch(trainer)
        count_saved_batch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Restore the state before the first batch, when the loaders have been started."""
        if self._loaded is not None:
            self._loaded.restore()
        self._loaded = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step the learning rate schedulers as in a run that was never interrupted."""
        schedule_once(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return the generators' states, as plain types and tensors."""
        state = RandomState.now()
        name, keys, position, has_gauss, gauss = state.numpy
        numpy = [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)]
        return {"cpu": state.cpu, "cuda": list(state.cuda), "numpy": numpy, "python": state.python}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the other processes' states, since one process writes the checkpoint."""
        if trainer.world_size > 1:
            checkpoint["callbacks"][self.state_key]["processes"] = of_every_process(trainer, self.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this rank's generator state; on another number of GPUs, theirs start from the seed."""
        states = state_dict.get("processes", [state_dict])
        if self._rank >= len(states):
            return
        state_dict = states[self._rank]
        name, keys, *rest = state_dict["numpy"]
        cuda = tuple(state_dict["cuda"]) if len(state_dict["cuda"]) == torch.cuda.device_count() else ()
        numpy = name, keys.numpy().astype(np.uint32), *rest
        self._loaded = RandomState(state_dict["cpu"].cpu(), cuda, numpy, state_dict["python"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
        """Warn when a checkpoint was written without this callback."""
        if trainer.state.fn == "fit" and self.state_key not in checkpoint.get("callbacks", {}):
            rank_zero_warn(
                f"The checkpoint holds no state of {self.state_key}; the global random generators start from the seed, "
                "so the run will not be the same as one that was never interrupted."
            )

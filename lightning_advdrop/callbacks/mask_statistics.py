"""How often each unit is disconnected by the masks that regularizers find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.callbacks.mask_history import (
    History,
    epochs_before,
    heat_map,
    histogram,
    picture,
    read_history,
    shares_of,
    write_history,
)
from lightning_advdrop.callbacks.processes import of_every_process
from lightning_advdrop.files import replacing
from lightning_advdrop.regularizers import Penalty

MASKS_FILE = "masks.csv"
HEAT_MAP_FILE = "masks_heat_map.png"
HISTOGRAM_FILE = "masks_histogram.png"
# By site, how often each unit was dropped, and of how many rows: (2, units).
Counts = dict[str, Tensor]


class MaskStatistics(Callback):
    """Counts how often each unit is disconnected, per site, over each epoch of training.

    It listens to the regularizers in the trainer that search masks, such as `AdversarialDropoutCallback`, and changes
    nothing. At the end of each epoch it writes the share of mask rows in which a unit is dropped to ``masks.csv`` in
    the log folder of the run, with the columns ``epoch``, ``site``, ``unit``, ``units`` and ``share``. Units are the
    places of a mask's row: hidden units at recurrent sites, columns of the weight, words of an embedding. Of sites with
    more than ``max_units`` units, neighbours are taken together: the share is the mean over ``units`` units from
    ``unit`` on. Two pictures are drawn beside it, and sent to Weights & Biases where its logger is attached: a heat map
    of units and epochs, and a histogram over the units in the last epoch.

    Where no logger has a folder, nothing is written. A resumed run goes on with the file where it logs to the same
    folder. Of several regularizers at one site the masks are counted together, as are those of several processes.

    Args:
        max_units: the most rows that a site gets in each epoch, at least 1.
        plot_every_n_epochs: how often the pictures are drawn, besides at the end; 0 for only there.

    Raises:
        ValueError: if an argument is outside what is allowed.

    Example:
        >>> MaskStatistics(max_units=100).max_units
        100
    """

    def __init__(self, max_units: int = 512, plot_every_n_epochs: int = 10) -> None:
        if max_units < 1:
            raise ValueError(f"max_units must be at least 1, got {max_units}.")
        if plot_every_n_epochs < 0:
            raise ValueError(f"plot_every_n_epochs must be at least 0, got {plot_every_n_epochs}.")
        self.max_units = max_units
        self.plot_every_n_epochs = plot_every_n_epochs
        #: How often each unit was dropped in this epoch, and of how many rows: ``(2, units)`` by site.
        self.counts: Counts = {}
        self._epoch = 0
        self._rank = 0
        self._history: History = {}
        self._read = False
        self._listening: list[RegularizerCallback] = []

    def count(self, penalty: Penalty) -> None:
        """Adds the masks that a regularizer found to those of this epoch; nothing leaves their device.

        Args:
            penalty: what it found.
        """
        for site, mask in penalty.masks.items():
            rows = site.as_rows(mask.detach())
            dropped = (rows == 0).sum(0)
            _add(self.counts, site.name, torch.stack([dropped, torch.full_like(dropped, len(rows))]))

    # Lightning's hooks.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learns which process this is, before a checkpoint is loaded."""
        self._rank = trainer.global_rank

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens to the regularizers, and warns where there are none."""
        self._stop_listening()
        self._history, self._read = {}, False
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        self._listening = [each for each in callbacks if isinstance(each, RegularizerCallback)]
        for callback in self._listening:
            callback.listeners.append(self.count)
        if not self._listening:
            rank_zero_warn(f"{type(self).__name__} counts what regularizers find, and the trainer has none.")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to count afresh, unless the epoch was begun before the run was resumed."""
        if self._epoch != trainer.current_epoch:
            self.counts = {}
        self._epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what was counted."""
        counts = _sum(of_every_process(trainer, _on_cpu(self.counts)))
        self.counts = {}
        if not trainer.is_global_zero:
            return
        folder = _folder(trainer)
        if folder is not None and not self._read:
            self._history = epochs_before(read_history(folder / MASKS_FILE), self._epoch)
        self._read = True
        for name, count in sorted(counts.items()):
            self._history.setdefault(name, {})[self._epoch] = shares_of(count, self.max_units)
        if folder is not None and self._history:
            write_history(folder / MASKS_FILE, self._history)
        if self.plot_every_n_epochs and (self._epoch + 1) % self.plot_every_n_epochs == 0:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the pictures, and says so if there was nothing to count."""
        if not trainer.is_global_zero:
            return
        if self._listening and not self._history:
            rank_zero_warn(f"{type(self).__name__} counted nothing: no regularizer of the trainer searched any masks.")
        self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops listening."""
        self._stop_listening()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops listening."""
        self._stop_listening()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stops listening."""
        self._stop_listening()

    def state_dict(self) -> dict[str, Any]:
        """What was counted in the epoch so far, for checkpoints within one."""
        return {"epoch": self._epoch, "counts": {name: count.clone() for name, count in self.counts.items()}}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds what other processes counted, since a checkpoint is written by one of them."""
        counts = _sum(of_every_process(trainer, _on_cpu(self.counts)))
        checkpoint["callbacks"][self.state_key]["counts"] = counts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint; one process stands for all that were there."""
        self._epoch, self.counts = state_dict["epoch"], dict(state_dict["counts"]) if self._rank == 0 else {}

    def _stop_listening(self) -> None:
        for callback in self._listening:
            if self.count in callback.listeners:
                callback.listeners.remove(self.count)
        self._listening = []

    def _draw(self, trainer: Trainer) -> None:
        """Draws the pictures, into the log folder and for Weights & Biases."""
        folder = _folder(trainer)
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step axis of all of Lightning's logs
        wandb: list[Any] = [each for each in trainer.loggers if _is_wandb(each)]
        if not self._history or (folder is None and not wandb):
            return
        for name, draw in ((HEAT_MAP_FILE, heat_map), (HISTOGRAM_FILE, histogram)):
            canvas: Any = picture(self._history, draw)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(folder / name) as partial:
                    canvas.print_figure(partial, format="png", dpi=150)
            canvas.draw()
            for logger in wandb:
                logger.log_image(name.removesuffix(".png"), [np.asarray(canvas.buffer_rgba()).copy()], step=step)


def _folder(trainer: Trainer) -> Path | None:
    """The log folder of this run: not the one that all runs of a logger share, nor the working folder."""
    folders = (logger.log_dir for logger in trainer.loggers)
    return next((Path(folder) for folder in folders if folder), None)


def _is_wandb(logger: object) -> bool:
    """By name, since Lightning's two packages have a class each."""
    return any(base.__name__ == "WandbLogger" for base in type(logger).__mro__)


def _add(counts: Counts, name: str, now: Tensor) -> None:
    """Adds a site's counts, of which later ones may have more units: an activation's mask is as long as its batch."""
    earlier = counts.get(name, now.new_zeros(2, 0)).to(now.device)
    both = now.new_zeros(2, max(now.shape[1], earlier.shape[1]))
    both[:, : now.shape[1]] += now
    both[:, : earlier.shape[1]] += earlier
    counts[name] = both


def _sum(parts: Sequence[Mapping[str, Tensor]]) -> Counts:
    counts: Counts = {}
    for part in parts:
        for name, count in part.items():
            _add(counts, name, count)
    return counts


def _on_cpu(counts: Mapping[str, Tensor]) -> Counts:
    return {name: count.cpu() for name, count in counts.items()}

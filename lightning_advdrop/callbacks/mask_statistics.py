"""Count how often each unit is disconnected by the masks that regularizers find."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_advdrop._extras import needed
from lightning_advdrop._lightning import trainer_callbacks
from lightning_advdrop._ranges import check_range
from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.callbacks.pictures import picture_loggers, send_picture
from lightning_advdrop.callbacks.processes import of_every_process
from lightning_advdrop.callbacks.shown import ShownWithArguments
from lightning_advdrop.drawing import as_png, heat_maps, histograms
from lightning_advdrop.files import write_whole
from lightning_advdrop.mask_shares import MASKS_FILE, NO_ROWS, Rows, as_matrix, read_shares, share_rows, write_shares
from lightning_advdrop.regularizers import Penalty

HEAT_MAP_FILE = "masks_heat_map.png"
HISTOGRAM_FILE = "masks_histogram.png"
# By site, how often each unit was dropped, and in how many masks: (2, units).
Counts = dict[str, Tensor]


class MaskStatistics(ShownWithArguments, Callback):
    """Count how often each unit is disconnected, by site and epoch of training.

    The callback listens to the regularizers in the trainer that search masks, such as `AdversarialDropoutCallback`, and
    changes nothing. At the end of each epoch it writes the share of masks that drop each unit to ``masks.csv`` in the
    log folder of the run, with the columns ``epoch``, ``site``, ``unit``, ``units`` and ``share``. A unit is a place in
    a mask's row: a hidden unit at recurrent sites, a column of the weight, a word of an embedding. Where a site has
    more than ``max_units`` units, neighbours are taken together: the share is the mean over ``units`` units, the first
    of which is ``unit``. Two pictures are written beside the file, and sent to Weights & Biases and TensorBoard where
    their loggers are attached: a heat map of units and epochs, and a histogram over the units in the last epoch.

    Nothing is written where no logger has a folder. A resumed run that logs to the same folder continues the file. The
    masks of several regularizers at one site, and those of several processes, are counted together.

    Args:
        max_units: The most rows that a site gets in each epoch, at least 1.
        plot_every_n_epochs: How often the pictures are drawn, besides at the end; 0 to draw them only at the end.

    Raises:
        ValueError: If ``max_units`` is below 1 or ``plot_every_n_epochs`` is negative.

    Example:
        >>> MaskStatistics(max_units=100).max_units
        100
    """

    def __init__(self, max_units: int = 512, plot_every_n_epochs: int = 10) -> None:
        check_range("at least 1", max_units=max_units)
        check_range("at least 0", plot_every_n_epochs=plot_every_n_epochs)
        self.max_units = max_units
        self.plot_every_n_epochs = plot_every_n_epochs
        #: How often each unit was dropped in this epoch, and in how many masks: ``(2, units)`` by site.
        self.counts: Counts = {}
        self._epoch = 0
        self._rank = 0
        self._history: dict[str, Rows] = {}
        self._read = False
        self._listening: list[RegularizerCallback] = []

    def count(self, penalty: Penalty) -> None:
        """Add the masks that a regularizer found to those of this epoch; nothing leaves their device.

        Args:
            penalty: What the regularizer returned.
        """
        for site, mask in penalty.masks.items():
            rows = site.as_rows(mask.detach())
            dropped = (rows == 0).sum(0)
            _add(self.counts, site.name, torch.stack([dropped, torch.full_like(dropped, len(rows))]))

    # Lightning's hooks.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the rank of this process, which is needed when a checkpoint is loaded."""
        self._rank = trainer.global_rank

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to the regularizers, and warn if there are none; check that pictures can be drawn."""
        with needed(type(self).__name__):  # at once, and not when the first epochs have been trained
            import matplotlib  # noqa: F401
        self._stop_listening()
        self._history, self._read = {}, False
        self._listening = [each for each in trainer_callbacks(trainer) if isinstance(each, RegularizerCallback)]
        for callback in self._listening:
            callback.listeners.append(self.count)
        if not self._listening:
            rank_zero_warn(f"{type(self).__name__} counts what regularizers find, and the trainer has none.")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the counts, unless the run was resumed within this epoch."""
        if self._epoch != trainer.current_epoch:
            self.counts = {}
        self._epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what was counted."""
        counts = _sum(of_every_process(trainer, _on_cpu(self.counts)))
        self.counts = {}
        if not trainer.is_global_zero:
            return
        folder = _folder(trainer)
        if folder is not None and not self._read:
            self._history = _read_before(folder / MASKS_FILE, self._epoch)
        self._read = True
        for name, count in counts.items():
            rows = share_rows(self._epoch, count.double().numpy(), self.max_units)
            self._history[name] = np.concatenate([self._history.get(name, NO_ROWS), rows])
        if folder is not None and self._history:
            write_shares(folder / MASKS_FILE, self._history)
        if self.plot_every_n_epochs and (self._epoch + 1) % self.plot_every_n_epochs == 0:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the pictures, and warn if nothing was counted."""
        if not trainer.is_global_zero:
            return
        if self._listening and not self._history:
            rank_zero_warn(f"{type(self).__name__} counted nothing: no regularizer of the trainer searched any masks.")
        self._draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        self._stop_listening()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop listening."""
        self._stop_listening()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of the epoch so far, for checkpoints within an epoch."""
        return {"epoch": self._epoch, "counts": {name: count.clone() for name, count in self.counts.items()}}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the counts of the other processes, since one process writes the checkpoint."""
        counts = _sum(of_every_process(trainer, _on_cpu(self.counts)))
        checkpoint["callbacks"][self.state_key]["counts"] = counts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts, in the first process for all of them."""
        self._epoch, self.counts = state_dict["epoch"], dict(state_dict["counts"]) if self._rank == 0 else {}

    def _stop_listening(self) -> None:
        for callback in self._listening:
            if self.count in callback.listeners:
                callback.listeners.remove(self.count)
        self._listening = []

    def _draw(self, trainer: Trainer) -> None:
        """Draw the pictures, into the log folder and for the loggers that show any."""
        folder = _folder(trainer)
        if not self._history or (folder is None and not picture_loggers(trainer)):
            return
        sites = sorted(self._history.items(), key=lambda item: item[0])
        matrices = [(site, as_matrix(rows)) for site, rows in sites]
        for name, make in ((HEAT_MAP_FILE, lambda: heat_maps(matrices)), (HISTOGRAM_FILE, lambda: histograms(sites))):
            png = as_png(make)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(folder / name, png)
            send_picture(trainer, name.removesuffix(".png"), png)


def _read_before(path: Path, epoch: int) -> dict[str, Rows]:
    """Read the epochs before this one: later ones are another run's, or are trained again."""
    if not path.exists():
        return {}
    try:
        sites = read_shares(path)
    except (ValueError, csv.Error) as error:
        rank_zero_warn(f"{path} is not what MaskStatistics wrote ({error}), and is written anew.")
        return {}
    earlier = {site: rows[rows["epoch"] < epoch] for site, rows in sites.items()}
    return {site: rows for site, rows in earlier.items() if len(rows)}


def _folder(trainer: Trainer) -> Path | None:
    """The log folder of this run: not the one that all runs of a logger share, nor the working folder."""
    folders = (logger.log_dir for logger in trainer.loggers)
    return next((Path(folder) for folder in folders if folder), None)


def _add(counts: Counts, name: str, now: Tensor) -> None:
    """Add a site's counts, of which later ones may have more units: an activation's mask is as long as its batch."""
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

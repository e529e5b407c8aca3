"""How often each unit is disconnected by the masks that regularizers find."""

from __future__ import annotations

import csv
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_advdrop.callbacks.base import RegularizerCallback
from lightning_advdrop.regularizers import Penalty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg

MASKS_FILE = "masks.csv"
HEAT_MAP_FILE = "masks_heat_map.png"
HISTOGRAM_FILE = "masks_histogram.png"
_COLUMNS = ("epoch", "site", "unit", "units", "share")
_PANEL_INCHES = (4.4, 3.3)
_MOST_COLUMNS = 3
_BINS = 30

# Of one site in one epoch, (ranges, 3): the first unit of a range, how many there are, and the share dropped.
Shares = np.ndarray[Any, np.dtype[np.float64]]
# By site and epoch.
History = dict[str, dict[int, Shares]]


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
        self.counts: dict[str, Tensor] = {}
        self._epoch = 0
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
            now = torch.stack([dropped, torch.full_like(dropped, len(rows))])
            before = self.counts.get(site.name, now.new_zeros(2, 0)).to(now.device)
            # An activation's mask is as long as the batch's sequences are.
            both = now.new_zeros(2, max(now.shape[1], before.shape[1]))
            both[:, : now.shape[1]] += now
            both[:, : before.shape[1]] += before
            self.counts[site.name] = both

    # Lightning's hooks.

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
        counts = {name: trainer.strategy.reduce(self.counts[name], reduce_op="sum") for name in sorted(self.counts)}
        self.counts = {}
        if not trainer.is_global_zero:
            return
        folder = _folder(trainer)
        if folder is not None and not self._read:
            self._history = _before(_read(folder / MASKS_FILE), self._epoch)
        self._read = True
        for name, count in counts.items():
            self._history.setdefault(name, {})[self._epoch] = _shares(count, self.max_units)
        if folder is not None and self._history:
            _write(folder / MASKS_FILE, self._history)
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._epoch, self.counts = state_dict["epoch"], dict(state_dict["counts"])

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
        for name, draw in ((HEAT_MAP_FILE, _heat_map), (HISTOGRAM_FILE, _histogram)):
            canvas: Any = _picture(self._history, draw)
            if folder is not None:
                with _replacing(folder / name) as partial:
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


def _shares(count: Tensor, max_units: int) -> Shares:
    dropped, rows = count.cpu().double().numpy()
    starts = np.arange(0, len(dropped), math.ceil(len(dropped) / max_units))
    units = np.diff(np.append(starts, len(dropped)))
    return np.stack([starts, units, np.add.reduceat(dropped / rows, starts) / units], axis=1)


def _before(history: History, epoch: int) -> History:
    """Without this epoch and later ones, which are another run's or are trained again."""
    earlier = {site: {at: shares for at, shares in epochs.items() if at < epoch} for site, epochs in history.items()}
    return {site: epochs for site, epochs in earlier.items() if epochs}


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of another one when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, history: History) -> None:
    with _replacing(path) as partial, partial.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for epoch in sorted({epoch for epochs in history.values() for epoch in epochs}):
            for site in sorted(site for site, epochs in history.items() if epoch in epochs):
                for unit, units, share in history[site][epoch]:
                    writer.writerow((epoch, site, int(unit), int(units), f"{share:.6g}"))


def _read(path: Path) -> History:
    """What an earlier part of the run wrote; nothing, with a warning, where the file is damaged."""
    if not path.exists():
        return {}
    rows: dict[tuple[str, int], list[list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                numbers = [float(row[name]) for name in _COLUMNS[2:]]
                rows.setdefault((row["site"], int(row["epoch"])), []).append(numbers)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        rank_zero_warn(f"{path} is not what {MaskStatistics.__name__} wrote ({error!r}), and is written anew.")
        return {}
    history: History = {}
    for (site, epoch), table in rows.items():
        history.setdefault(site, {})[epoch] = np.array(table)
    return history


def _picture(history: History, draw: Callable[[Axes, Mapping[int, Shares]], None]) -> FigureCanvasAgg:
    """A figure with a panel for each site."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(history), _MOST_COLUMNS)
    rows = math.ceil(len(history) / columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (site, epochs) in zip(grid.flat, sorted(history.items()), strict=False):
        axes.set_title(site, fontsize=9, parse_math=False)
        draw(axes, epochs)
    for axes in list(grid.flat)[len(history) :]:
        axes.remove()
    return FigureCanvasAgg(figure)


def _heat_map(axes: Axes, epochs: Mapping[int, Shares]) -> None:
    first, last = min(epochs), max(epochs)
    longest = max(epochs.values(), key=len)
    shares = np.full((len(longest), last - first + 1), np.nan)
    for epoch, table in epochs.items():
        shares[: len(table), epoch - first] = table[:, 2]
    extent = (first + 0.5, last + 1.5, 0.0, float(longest[-1, :2].sum()))
    image = axes.imshow(shares, aspect="auto", origin="lower", interpolation="nearest", extent=extent, vmin=0)
    _furnish(axes, "Training time (epochs)", "Unit")
    figure = axes.figure
    figure.colorbar(image, ax=axes, label="Share of masks that drop it")


def _histogram(axes: Axes, epochs: Mapping[int, Shares]) -> None:
    table = epochs[max(epochs)]
    axes.hist(table[:, 2], bins=_BINS, weights=table[:, 1], color="#0072B2")
    mean = np.average(table[:, 2], weights=table[:, 1])
    axes.axvline(mean, color="#D55E00", linestyle="--", label=f"mean {mean:.3g}")
    axes.legend(fontsize=8)
    _furnish(axes, f"Share of masks that drop a unit, epoch {max(epochs) + 1}", "Units")


def _furnish(axes: Axes, x: str, y: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if y == "Unit":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))

"""How often units were disconnected in each epoch of a run: in numbers, as a file, and in pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_advdrop.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg

_COLUMNS = ("epoch", "site", "unit", "units", "share")
_PANEL_INCHES = (4.4, 3.3)
_MOST_COLUMNS = 3
_BINS = 30

# Of one site in one epoch, (ranges, 3): the first unit of a range, how many there are, and the share dropped.
Shares = np.ndarray[tuple[int, int], np.dtype[np.float64]]
# By site and epoch.
History = dict[str, dict[int, Shares]]


def shares_of(count: Tensor, max_units: int) -> Shares:
    """The share of masks that drop each unit, or each range of neighbours where there are too many.

    Args:
        count: how often each unit was dropped, and of how many rows, ``(2, units)``.
        max_units: the most ranges, at least 1.

    Example:
        >>> from torch import tensor
        >>> shares_of(tensor([[1, 3, 0], [4, 4, 4]]), max_units=2).tolist()
        [[0.0, 2.0, 0.5], [2.0, 1.0, 0.0]]
    """
    dropped, rows = count.cpu().double().numpy()
    starts = np.arange(0, len(dropped), math.ceil(len(dropped) / max_units))
    units = np.diff(np.append(starts, len(dropped)))
    return np.stack([starts, units, np.add.reduceat(dropped / rows, starts) / units], axis=1)


def epochs_before(history: History, epoch: int) -> History:
    """Without this epoch and later ones, which are another run's or are trained again."""
    earlier = {site: {at: shares for at, shares in epochs.items() if at < epoch} for site, epochs in history.items()}
    return {site: epochs for site, epochs in earlier.items() if epochs}


def write_history(path: Path, history: History) -> None:
    """Writes a line for each range of units in each epoch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for epoch in sorted({epoch for epochs in history.values() for epoch in epochs}):
            for site in sorted(site for site, epochs in history.items() if epoch in epochs):
                for unit, units, share in history[site][epoch]:
                    writer.writerow((epoch, site, int(unit), int(units), f"{share:.6g}"))


def read_history(path: Path) -> History:
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
        rank_zero_warn(f"{path} is not what MaskStatistics wrote ({error!r}), and is written anew.")
        return {}
    history: History = {}
    for (site, epoch), table in rows.items():
        history.setdefault(site, {})[epoch] = np.array(table)
    return history


def picture(history: History, draw: Callable[[Axes, Mapping[int, Shares]], None]) -> FigureCanvasAgg:
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


def heat_map(axes: Axes, epochs: Mapping[int, Shares]) -> None:
    """Draws units and epochs."""
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


def histogram(axes: Axes, epochs: Mapping[int, Shares]) -> None:
    """Draws how the units spread in the last epoch."""
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

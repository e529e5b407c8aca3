"""The heat map of how often each unit is disconnected, from the files that `MaskStatistics` writes."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightning_advdrop.report.errors import ReportError, RunError
from lightning_advdrop.report.plots import panel_grid, save_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MASKS_FILE = "masks.csv"
_COLUMNS = ("epoch", "site", "unit", "units", "share")
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


@dataclass(frozen=True)
class MaskShares:
    """How often the units of one site were dropped.

    Args:
        shares: ``(ranges of units, epochs)``, in [0, 1]; ``nan`` where nothing was counted.
        first_epoch: The epoch of the first column, counted from 0.
        units: The number of units.
    """

    shares: Matrix
    first_epoch: int
    units: int


def read_masks(path: Path) -> Mapping[str, MaskShares]:
    r"""Read a file of mask statistics.

    Args:
        path: A ``masks.csv``.

    Returns:
        What it says of each site, by the site's name.

    Raises:
        RunError: If the file is missing, unreadable, empty, or holds something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "masks.csv")
        ...     _ = path.write_text("epoch,site,unit,units,share\n0,lstm,0,1,0.25\n0,lstm,1,1,0.5\n")
        ...     read_masks(path)["lstm"].shares.tolist()
        [[0.25], [0.5]]
    """
    sites: dict[str, dict[tuple[int, int], tuple[int, float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != _COLUMNS:
                raise RunError(f"{path.name} does not begin with {','.join(_COLUMNS)}")
            for row in rows:
                epoch, site, unit, units, share = _cells(row, rows.line_num)
                sites.setdefault(site, {})[unit, epoch] = units, share
    except FileNotFoundError:
        raise RunError(f"found no {path.name}, which MaskStatistics writes") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path.name} cannot be read ({error})") from error
    if not sites:
        raise RunError(f"{path.name} holds no value")
    return {site: _matrix(cells) for site, cells in sites.items()}


def _cells(row: Sequence[str], line: int) -> tuple[int, str, int, int, float]:
    try:
        epoch, site, unit, units, share = row
        cells = int(epoch), site, int(unit), int(units), float(share)
    except ValueError:
        cells = (-1, "", -1, 0, math.nan)
    if min(cells[0], cells[2], cells[3] - 1) < 0 or not 0 <= cells[4] <= 1:
        raise RunError(
            f"{MASKS_FILE} has {','.join(row)!r} in line {line}, where epoch, site, unit, units and share must be"
        )
    return cells


def _matrix(cells: Mapping[tuple[int, int], tuple[int, float]]) -> MaskShares:
    starts = {unit: index for index, unit in enumerate(sorted({unit for unit, _ in cells}))}
    epochs = [epoch for _, epoch in cells]
    shares = np.full((len(starts), max(epochs) - min(epochs) + 1), math.nan)
    for (unit, epoch), (_, share) in cells.items():
        shares[starts[unit], epoch - min(epochs)] = share
    return MaskShares(shares, min(epochs), max(unit + units for (unit, _), (units, _) in cells.items()))


def draw_masks(panels: Sequence[tuple[str, MaskShares]], path: Path) -> None:
    """Draw heat maps of units and epochs, a panel for each site. The file is put in its place when it is whole.

    Args:
        panels: Titles, and what to draw.
        path: The PNG file to write.

    Raises:
        ReportError: If there are no panels.
        OSError: If the file cannot be written.

    Example:
        >>> draw_masks([], Path("masks.png"))
        Traceback (most recent call last):
        ...
        lightning_advdrop.report.errors.ReportError: panels must hold at least one site to draw, got none
    """
    if not panels:
        raise ReportError("panels must hold at least one site to draw, got none")
    save_picture(path, lambda: _figure(panels))


def _figure(panels: Sequence[tuple[str, MaskShares]]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    figure, grid = panel_grid(len(panels))
    for axes, (title, found) in zip(grid, panels, strict=True):
        first, count = found.first_epoch, found.shares.shape[1]
        extent = (first + 0.5, first + count + 0.5, 0.0, float(found.units))
        shown = axes.imshow(found.shares, aspect="auto", origin="lower", interpolation="nearest", extent=extent, vmin=0)
        figure.colorbar(shown, ax=axes, label="Share of masks that drop it")
        axes.grid(visible=False)
        axes.set_title(title, fontsize=8, parse_math=False)
        axes.set_xlabel("Training time (epochs)")
        axes.set_ylabel("Unit")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    return figure

"""The share of masks that drop each unit of a site, by epoch, and the file ``masks.csv`` that keeps it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_advdrop.files import TEXT_ENCODING, replacing

MASKS_FILE = "masks.csv"
_COLUMNS = ("epoch", "site", "unit", "units", "share")
_ROW = np.dtype([("epoch", np.int64), ("unit", np.int64), ("units", np.int64), ("share", np.float64)])
# One row for each epoch and range of units: the range's first unit, its number of units, and the share dropped.
Rows = np.ndarray[tuple[int], np.dtype[np.void]]
_Row = tuple[int, int, int, float]
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
NO_ROWS: Rows = np.empty(0, _ROW)


@dataclass(frozen=True)
class MaskShares:
    """How often the units of one site were dropped, as a matrix to draw.

    Args:
        shares: ``(ranges of units, epochs)``, in [0, 1]; ``nan`` where nothing was counted.
        first_epoch: The epoch of the first column, counted from 0.
        units: The number of units.
    """

    shares: Matrix
    first_epoch: int
    units: int


def share_rows(epoch: int, count: Matrix, max_units: int) -> Rows:
    """Compute the share of masks that drop each unit, or each range of neighbours where there are too many.

    Args:
        epoch: The epoch that was counted.
        count: How often each unit was dropped, and in how many masks, ``(2, units)``.
        max_units: The most ranges, at least 1.

    Example:
        >>> share_rows(3, np.array([[1.0, 3.0, 0.0], [4.0, 4.0, 4.0]]), max_units=2).tolist()
        [(3, 0, 2, 0.5), (3, 2, 1, 0.0)]
    """
    dropped, masks = count
    starts = np.arange(0, len(dropped), math.ceil(len(dropped) / max_units))
    rows = np.empty(len(starts), _ROW)
    rows["epoch"], rows["unit"] = epoch, starts
    rows["units"] = np.diff(starts, append=len(dropped))
    rows["share"] = np.add.reduceat(dropped / masks, starts) / rows["units"]
    return rows


def as_matrix(rows: Rows) -> MaskShares:
    """Arrange the rows of one site by unit and epoch.

    Example:
        >>> as_matrix(share_rows(3, np.array([[1.0, 3.0], [4.0, 4.0]]), max_units=2))
        MaskShares(shares=array([[0.25],
               [0.75]]), first_epoch=3, units=2)
    """
    starts, places = np.unique(rows["unit"], return_inverse=True)
    first, last = int(rows["epoch"].min()), int(rows["epoch"].max())
    shares = np.full((len(starts), last - first + 1), math.nan)
    shares[places, rows["epoch"] - first] = rows["share"]
    return MaskShares(shares, first, int((rows["unit"] + rows["units"]).max()))


def write_shares(path: Path, sites: Mapping[str, Rows]) -> None:
    """Write the rows of all sites atomically, by epoch and site.

    Args:
        path: The file to write; its folder is made where it is missing.
        sites: Rows by the name of their site.
    """
    lines = [(epoch, site, *others) for site, rows in sites.items() for epoch, *others in rows.tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((*line, f"{share:.6g}") for *line, share in sorted(lines))


def read_shares(path: Path) -> dict[str, Rows]:
    r"""Read a file that `write_shares` wrote.

    Returns:
        Rows by the name of their site.

    Raises:
        OSError: If the file is missing or cannot be read.
        csv.Error: If it is no CSV.
        ValueError: If it is empty, or holds something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, MASKS_FILE)
        ...     _ = path.write_text("epoch,site,unit,units,share\n0,lstm,0,1,0.25\n0,lstm,1,1,0.5\n")
        ...     read_shares(path)["lstm"].tolist()
        [(0, 0, 1, 0.25), (0, 1, 1, 0.5)]
    """
    sites: dict[str, list[_Row]] = {}
    with path.open(newline="", encoding=TEXT_ENCODING) as file:
        lines = csv.reader(file)
        if tuple(next(lines, ())) != _COLUMNS:
            raise ValueError(f"{path.name} does not begin with {','.join(_COLUMNS)}")
        for line in lines:
            try:
                site, row = _cells(line)
            except ValueError:
                raise ValueError(
                    f"{path.name} has {','.join(line)!r} in line {lines.line_num}, where {', '.join(_COLUMNS[:-1])} and"
                    f" {_COLUMNS[-1]} must be"
                ) from None
            sites.setdefault(site, []).append(row)
    if not sites:
        raise ValueError(f"{path.name} holds no value")
    return {site: np.array(rows, _ROW) for site, rows in sites.items()}


def _cells(line: Sequence[str]) -> tuple[str, _Row]:
    epoch, site, unit, units, share = line
    row = int(epoch), int(unit), int(units), float(share)
    if min(row[0], row[1], row[2] - 1) < 0 or not 0 <= row[3] <= 1:
        raise ValueError
    return site, row

"""Read the logs of a run: ``metrics.csv`` of Lightning's ``CSVLogger``, and ``masks.csv`` of ``MaskStatistics``."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightning_advdrop.files import TEXT_ENCODING
from lightning_advdrop.mask_shares import MaskShares, as_matrix, read_shares
from lightning_advdrop.report.errors import RunError, reading

METRICS_FILE = "metrics.csv"
_COUNTERS = ("epoch", "step")


@dataclass
class Series:
    """The values that one run logged under one name.

    Args:
        last: The last value in the file, whatever its epoch.
        by_epoch: The last value of each epoch, counted from 0. Rows without an epoch are not in it.
        step: The optimizer step of the last value; ``None`` where its row has none.
    """

    last: float
    by_epoch: dict[int, float] = field(default_factory=dict)
    step: int | None = None


def read_history(path: Path) -> Mapping[str, Series]:
    r"""Read the metrics of a run.

    A row holds what one logging call wrote, so most of its cells are empty: those are skipped. A value that was logged
    as ``nan`` is kept, because a run that diverged must not be taken for one that stopped early.

    Args:
        path: A ``metrics.csv``.

    Returns:
        A series for each column that holds a value, except ``epoch`` and ``step``.

    Raises:
        RunError: If the file is missing, unreadable or empty, or if a cell is not a number.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "metrics.csv")
        ...     _ = path.write_text("epoch,step,train/loss,val/loss\n0,9,0.7,\n0,9,,0.6\n1,19,,0.5\n")
        ...     read_history(path)["val/loss"]
        Series(last=0.5, by_epoch={0: 0.6, 1: 0.5}, step=19)
    """
    with reading(path, "Lightning's CSVLogger"), path.open(newline="", encoding=TEXT_ENCODING) as file:
        rows = csv.DictReader(file)
        if not rows.fieldnames:
            raise RunError(f"{path.name} is empty")
        history = _collect(rows)
    if not history:
        raise RunError(f"{path.name} holds no value")
    return history


def read_masks(path: Path) -> Mapping[str, MaskShares]:
    r"""Read the mask statistics of a run.

    Args:
        path: A ``masks.csv``.

    Returns:
        How often the units of each site were dropped, by the site's name.

    Raises:
        RunError: If the file is missing, unreadable or empty, or holds something else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "masks.csv")
        ...     _ = path.write_text("epoch,site,unit,units,share\n0,lstm,0,1,0.25\n0,lstm,1,1,0.5\n")
        ...     read_masks(path)["lstm"].shares.tolist()
        [[0.25], [0.5]]
    """
    with reading(path, "MaskStatistics"):
        return {site: as_matrix(rows) for site, rows in read_shares(path).items()}


def _collect(rows: "csv.DictReader[str]") -> dict[str, Series]:
    history: dict[str, Series] = {}
    for row in rows:
        try:
            numbers = _numbers(row.items())
        except ValueError as error:
            raise RunError(f"{METRICS_FILE} has {error} in line {rows.line_num}, where a number must be") from None
        epoch, step = numbers.get("epoch"), numbers.get("step")
        for name in numbers.keys() - _COUNTERS:
            series = history.setdefault(name, Series(numbers[name]))
            series.last = numbers[name]
            series.step = int(step) if step is not None and math.isfinite(step) else None
            if epoch is not None and math.isfinite(epoch):
                series.by_epoch[int(epoch)] = numbers[name]
    return history


def _numbers(cells: Iterable[tuple[str | None, str | None]]) -> dict[str, float]:
    numbers = {}
    for name, text in cells:
        # Cells are missing at the end of a row that was being written when the run was killed.
        if not name or not text:
            continue
        try:
            numbers[name] = float(text)
        except ValueError:
            raise ValueError(f"{name}={text!r}") from None
    return numbers

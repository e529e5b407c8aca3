"""Reading ``metrics.csv``, the file that Lightning's ``CSVLogger`` writes."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightning_advdrop.report.errors import RunError

METRICS_FILE = "metrics.csv"
_COUNTERS = ("epoch", "step")


@dataclass
class Series:
    """What one run logged under one name.

    Args:
        last: The last value in the file, whatever its epoch.
        by_epoch: The last value of each epoch, counted from 0. Rows without an epoch are not in it.
    """

    last: float
    by_epoch: dict[int, float] = field(default_factory=dict)


def read_history(path: Path) -> Mapping[str, Series]:
    r"""Read what a run logged.

    A row holds what one logging call wrote, so most of its cells are empty: those are skipped. A value that was logged
    as ``nan`` is kept, because a run that diverged must not be taken for one that stopped early.

    Args:
        path: A ``metrics.csv``.

    Returns:
        A series for each column that holds a value, ``epoch`` and ``step`` excepted.

    Raises:
        RunError: If the file is missing, unreadable, empty, or holds something that is no number.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "metrics.csv")
        ...     _ = path.write_text("epoch,step,train/loss,val/loss\n0,9,0.7,\n0,9,,0.6\n1,19,,0.5\n")
        ...     read_history(path)["val/loss"]
        Series(last=0.5, by_epoch={0: 0.6, 1: 0.5})
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if not rows.fieldnames:
                raise RunError(f"{path.name} is empty")
            history = _collect(rows)
    except FileNotFoundError:
        raise RunError(f"found no {path.name}, which Lightning's CSVLogger writes") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path.name} cannot be read ({error})") from error
    if not history:
        raise RunError(f"{path.name} holds no value")
    return history


def _collect(rows: "csv.DictReader[str]") -> dict[str, Series]:
    history: dict[str, Series] = {}
    for row in rows:
        try:
            numbers = _numbers(row.items())
        except ValueError as error:
            raise RunError(f"{METRICS_FILE} has {error} in line {rows.line_num}, where a number must be") from None
        epoch = numbers.get("epoch")
        for name in numbers.keys() - _COUNTERS:
            series = history.setdefault(name, Series(numbers[name]))
            series.last = numbers[name]
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

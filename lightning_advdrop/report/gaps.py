"""The gap between dropout's training and inference phases over the epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightning_advdrop.report.errors import ReportError
from lightning_advdrop.report.groups import PLAIN, Group
from lightning_advdrop.report.plots import by_experiment, curve, furnish, looks_of, panel_grid, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANDOM, ADVERSARIAL = "gap/random", "gap/adversarial"
_LINES = ((ADVERSARIAL, "-", "adversarial value"), (RANDOM, (0, (3, 1.5)), "mean over random masks"))
# What may lie above and below the lines; bands may be so wide that they would flatten these.
_MARGIN = 2.0


def draw_gaps(groups: Sequence[Group], path: Path, baseline: str = PLAIN) -> None:
    """Draw the gap and the adversarial value over the epochs: a panel for each experiment, a colour for each method.

    Lines and bands are those of `draw_curves`, on a logarithmic axis; what is not above 0 is left out. The file is put
    in its place when it is whole.

    Args:
        groups: Runs by experiment and method; each run must have logged ``gap/random`` and ``gap/adversarial``.
        path: The PNG file to write.
        baseline: The method that is drawn in black.

    Raises:
        ReportError: If there are no groups.
        RunError: If a run did not log the values.
        OSError: If the file cannot be written.

    Example:
        >>> draw_gaps([], Path("gap.png"))
        Traceback (most recent call last):
        ...
        lightning_advdrop.report.errors.ReportError: groups must hold at least one group to draw, got none
    """
    if not groups:
        raise ReportError("groups must hold at least one group to draw, got none")
    save_picture(path, lambda: _figure(groups, baseline))


def _figure(groups: Sequence[Group], baseline: str) -> "Figure":
    experiments = by_experiment(groups)
    looks = looks_of(groups, baseline)
    figure, panels = panel_grid(len(experiments))
    for axes, (experiment, members) in zip(panels, experiments.items(), strict=True):
        for group in members:
            _draw(axes, group, looks[group.method][0])
        for _, style, words in _LINES:  # for the legend
            axes.plot([], [], color="#777777", linestyle=style, linewidth=1.6, label=words)
        _scale(axes, members)
        furnish(axes, experiment, "Change of the prediction (divergence)")
    return figure


def _draw(axes: "Axes", group: Group, color: str) -> None:
    count = len(group.runs)
    for name, style, _ in _LINES:
        epochs, means, deviations = curve(group, name)
        middle, half = _positive(means), np.array(deviations)
        label = f"{group.method}, {count} seed{'s' if count != 1 else ''}" if name == ADVERSARIAL else None
        marker = "o" if len(epochs) == 1 else ""
        axes.plot(epochs, middle, color=color, linestyle=style, linewidth=1.6, marker=marker, markersize=4, label=label)
        # Below 0 a logarithmic axis has nothing; the band goes on to its end.
        low = np.maximum(middle - half, np.finfo(float).tiny)
        axes.fill_between(epochs, low, middle + half, color=color, alpha=0.15, linewidth=0)


def _positive(values: Sequence[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    found = np.array(values, dtype=float)
    found[~(found > 0)] = np.nan
    return found


def _scale(axes: "Axes", groups: Sequence[Group]) -> None:
    values = np.concatenate([_positive(curve(group, name)[1]) for group in groups for name in (RANDOM, ADVERSARIAL)])
    if np.isfinite(values).any():
        axes.set_yscale("log")
        axes.set_ylim(np.nanmin(values) / _MARGIN, np.nanmax(values) * _MARGIN)

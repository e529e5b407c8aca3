"""The figures of a report: lines over the epochs, and heat maps of masks."""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_advdrop.drawing import GAP_LINES, as_png, heat_maps, panel_grid, whole_numbers
from lightning_advdrop.files import write_whole
from lightning_advdrop.mask_shares import MaskShares
from lightning_advdrop.report.errors import ReportError
from lightning_advdrop.report.groups import PLAIN, Group, method_key
from lightning_advdrop.report.metrics import axis_label, is_percentage
from lightning_advdrop.report.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANDOM, ADVERSARIAL = "gap/random", "gap/adversarial"
RANDOM_MAX, MEAN_PREDICTION = "gap/random_max", "gap/mean_prediction"
_NEEDED = (RANDOM, ADVERSARIAL)
# The space above and below the lines of the gap; bands may be so wide that they would flatten these.
_GAP_MARGIN = 2.0
# The palette of Okabe & Ito ("Color universal design", 2008), less the yellow, which is too light for lines on white.
_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Their number and that of the colours have no common divisor, so that 28 methods differ from one another.
_STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)))
# Of the legend, in heights of the panel: below the numbers and the name of the axis.
_LEGEND_TOP = -0.17
# In characters of the legend.
_HALF_A_PANEL = 32


def draw_curves(groups: Sequence[Group], metrics: Mapping[str, str], path: Path, baseline: str = PLAIN) -> None:
    """Draw metrics over the epochs: a panel with an axis of its own for each experiment, a line for each method.

    The line is the mean over the runs, the band around it one sample standard deviation to either side; an epoch counts
    the runs that reached it. There is no band where there is one run, and a gap where a value is not finite. A method
    has the same colour in all panels. The file is written atomically.

    Args:
        groups: Runs by experiment and method; each run must have logged the metric of its experiment.
        metrics: By experiment, the name of the metric to draw, e.g. ``{"quickstart": "val/accuracy"}``.
        path: The PNG file to write.
        baseline: The method that is drawn in black.

    Raises:
        ReportError: If there are no groups.
        RunError: If a run did not log the metric.
        OSError: If the file cannot be written.

    Example:
        >>> draw_curves([], {}, Path("curves.png"))
        Traceback (most recent call last):
        ...
        lightning_advdrop.report.errors.ReportError: groups must hold at least one group to draw, got none
    """
    _save(path, "groups must hold at least one group", groups, lambda: curves_figure(groups, metrics, baseline))


def draw_gaps(groups: Sequence[Group], path: Path, baseline: str = PLAIN) -> None:
    """Draw the values of `InferenceGapMonitor` over the epochs: a panel for each experiment, a colour for each method.

    Lines are those of `draw_curves`, on a logarithmic axis; values that are not positive are left out. The adversarial
    value and the mean over random masks have bands. The file is written atomically.

    Args:
        groups: Runs by experiment and method; each run must have logged ``gap/random`` and ``gap/adversarial``.
            ``gap/random_max`` and ``gap/mean_prediction`` are drawn for the methods whose runs have all logged them.
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
    _save(path, "groups must hold at least one group", groups, lambda: gaps_figure(groups, baseline))


def draw_masks(panels: Sequence[tuple[str, MaskShares]], path: Path) -> None:
    """Draw heat maps of units and epochs, a panel for each site. The file is written atomically.

    Args:
        panels: The title and the shares of each panel.
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
    _save(path, "panels must hold at least one site", panels, lambda: heat_maps(panels))


def _save(path: Path, needed: str, drawn: Sequence[object], make: "Callable[[], Figure]") -> None:
    if not drawn:
        raise ReportError(f"{needed} to draw, got none")
    write_whole(path, as_png(make))


def curves_figure(groups: Sequence[Group], metrics: Mapping[str, str], baseline: str) -> "Figure":
    """Make the figure of `draw_curves`."""

    def draw(axes: "Axes", members: Sequence[Group], looks: Mapping[str, tuple[str, Any]]) -> str:
        metric = metrics[members[0].experiment]
        for group in members:
            scale = 100.0 if is_percentage(metric) else 1.0
            _line(axes, group, metric, *looks[group.method], scale=scale)
        return axis_label(metric)

    return _panels(groups, baseline, draw)


def gaps_figure(groups: Sequence[Group], baseline: str) -> "Figure":
    """Make the figure of `draw_gaps`."""

    def draw(axes: "Axes", members: Sequence[Group], looks: Mapping[str, tuple[str, Any]]) -> str:
        drawn, there = [], set()
        for group in members:
            for name, style, _ in GAP_LINES:
                if name not in _NEEDED and not all(has_curves(run, [name]) for run in group.runs):
                    continue
                kind = {"positive": True, "named": name == ADVERSARIAL, "band": name in _NEEDED}
                middle = _line(axes, group, name, looks[group.method][0], style, **kind)
                drawn.append(middle[middle > 0])
                there.add(name)
        for name, style, words in GAP_LINES:  # for the legend
            if name in there:
                axes.plot([], [], color="#777777", linestyle=style, linewidth=1.6, label=words)
        values = np.concatenate(drawn)
        if values.size:
            axes.set_yscale("log")
            axes.set_ylim(values.min() / _GAP_MARGIN, values.max() * _GAP_MARGIN)
        return "Change of the prediction (divergence)"

    return _panels(groups, baseline, draw)


def _panels(groups: Sequence[Group], baseline: str, draw: "Callable[..., str]") -> "Figure":
    """Make a panel for each experiment; ``draw`` fills it and returns the label of its axis."""
    experiments: dict[str, list[Group]] = {}
    for group in groups:
        experiments.setdefault(group.experiment, []).append(group)
    looks = looks_of(groups, baseline)
    figure, panels = panel_grid(len(experiments))
    for axes, (experiment, members) in zip(panels, experiments.items(), strict=True):
        _furnish(axes, experiment, draw(axes, members, looks))
    return figure


def looks_of(groups: Sequence[Group], baseline: str) -> Mapping[str, tuple[str, Any]]:
    """Give each method its colour and line style; black is the baseline's, whether it is there or not."""
    others = sorted({group.method for group in groups} - {baseline}, key=lambda method: method_key(method, baseline))
    return {
        method: (_COLORS[index % len(_COLORS)], _STYLES[index % len(_STYLES)])
        for index, method in enumerate([baseline, *others])
    }


def has_curves(candidate: Run, names: Iterable[str]) -> bool:
    """Return whether a run logged everything of these names by epoch."""
    return all(name in candidate.history and bool(candidate.history[name].by_epoch) for name in names)


def curve(group: Group, metric: str) -> tuple[list[int], list[float], list[float]]:
    """Compute mean and sample standard deviation over the runs of a group, epoch by epoch.

    Args:
        group: The runs.
        metric: Name of a metric that each of them logged.

    Returns:
        Epochs, counted from 1: the value is that after so many epochs; means; deviations, ``nan`` where there is one
        run. Where a value is not finite, both are ``nan``.

    Raises:
        RunError: If a run did not log the metric.

    Example:
        >>> curve(Group("digits", "plain", ()), "val/accuracy")
        ([], [], [])
    """
    histories = [run.series(metric).by_epoch for run in group.runs]
    epochs = sorted({epoch for history in histories for epoch in history})
    means, deviations = [], []
    for epoch in epochs:
        values = np.array([history[epoch] for history in histories if epoch in history])
        finite = bool(np.isfinite(values).all())
        means.append(float(values.mean()) if finite else math.nan)
        deviations.append(float(values.std(ddof=1)) if finite and len(values) > 1 else math.nan)
    return [epoch + 1 for epoch in epochs], means, deviations


def _line(
    axes: "Axes",
    group: Group,
    metric: str,
    color: str,
    style: Any,
    *,
    scale: float = 1.0,
    positive: bool = False,
    named: bool = True,
    band: bool = True,
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Draw a line and its band; return the values of the line."""
    epochs, means, deviations = curve(group, metric)
    middle, half = scale * np.array(means, float), scale * np.array(deviations, float)
    low = middle - half
    if positive:
        middle[~(middle > 0)] = np.nan
        low = np.maximum(middle - half, np.finfo(float).tiny)  # a logarithmic axis has nothing below 0
    count = len(group.runs)
    label = f"{group.method}, {count} seed{'s' if count != 1 else ''}" if named else None
    # A line through one point is invisible.
    marker = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, middle, color=color, linestyle=style, linewidth=1.6, marker=marker, markersize=4, label=label)
    if band:
        axes.fill_between(epochs, low, middle + half, color=color, alpha=0.18, linewidth=0)
    return middle


def _furnish(axes: "Axes", experiment: str, label: str) -> None:
    """Give a panel its title, the names of its axes and, below it, its legend."""
    # Names are no formulas: "$" would start one.
    axes.set_title(experiment, parse_math=False)
    axes.set_xlabel("Training time (epochs)")
    axes.set_ylabel(label, parse_math=False)
    whole_numbers(axes.xaxis)
    lines, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels), default=0) <= _HALF_A_PANEL else 1
    labels = [textwrap.fill(each, 2 * _HALF_A_PANEL) for each in labels]
    # Below the panel, where it can't lie on a line.
    legend = axes.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, _LEGEND_TOP), ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)

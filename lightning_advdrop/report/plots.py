"""The figures of a report: curves over the epochs, and what all figures share."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_advdrop.files import replacing
from lightning_advdrop.report.errors import ReportError
from lightning_advdrop.report.groups import PLAIN, Group, method_key
from lightning_advdrop.report.metrics import is_percentage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe & Ito ("Color universal design", 2008), less the yellow, which is too light for lines on white.
_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Of another length than the colours have, so that each method has a style of its own; it is told apart in grey, too.
_STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)))
_STAGES = {"train": "training", "val": "validation", "test": "test"}
_MOST_COLUMNS = 3
_PANEL_INCHES = (4.4, 3.6)
# Of the legend, in heights of the panel: below the numbers and the name of the axis.
_LEGEND_TOP = -0.17
# In characters of the legend.
_HALF_A_PANEL = 32
_DOTS_PER_INCH = 200
_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
}


def draw_curves(groups: Sequence[Group], metrics: Mapping[str, str], path: Path, baseline: str = PLAIN) -> None:
    """Draw metrics over the epochs: a panel with an axis of its own for each experiment, a line for each method.

    The line is the mean over the runs, the band around it one sample standard deviation to either side; an epoch counts
    the runs that reached it. There is no band where there is one run, and a gap where a value is not finite. A method
    has the same colour in all panels. The file is put in its place when it is whole.

    Args:
        groups: Runs by experiment and method; each run must have logged the metric of its experiment.
        metrics: By experiment, the name of what is drawn, e.g. ``{"quickstart": "val/accuracy"}``.
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
    if not groups:
        raise ReportError("groups must hold at least one group to draw, got none")
    save_picture(path, lambda: _figure(groups, metrics, baseline))


def save_picture(path: Path, make: Callable[[], "Figure"]) -> None:
    """Write a figure in the style of reports as a PNG file, which is put in its place when it is whole.

    Args:
        path: The file to write.
        make: Makes the figure.

    Raises:
        OSError: If the file cannot be written.
    """
    # Imported here: matplotlib takes a second, which the other commands need not wait for.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # Defaults first: a user's matplotlibrc must not change how reports look. The backend is not ours to choose.
    style: dict[Any, Any] = {**matplotlib.rcParamsDefault, **_STYLE}
    del style["backend"]
    with matplotlib.rc_context(style):
        canvas = FigureCanvasAgg(make())
        with replacing(path) as partial, partial.open("xb") as file:
            canvas.print_figure(file, format="png", dpi=_DOTS_PER_INCH)


def curve(group: Group, metric: str) -> tuple[list[int], list[float], list[float]]:
    """Mean and sample standard deviation over the runs of a group, epoch by epoch.

    Args:
        group: The runs.
        metric: Name of what they logged.

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


def axis_label(metric: str) -> str:
    """Name a metric in words, with its unit.

    Example:
        >>> axis_label("val/accuracy"), axis_label("train/loss"), axis_label("advdrop/flip_rate")
        ('Validation accuracy (%)', 'Training loss', 'Advdrop flip rate')
    """
    stage, _, name = metric.rpartition("/")
    words = f"{_STAGES.get(stage, stage)} {name}".replace("_", " ").replace("/", " ").strip()
    return f"{words[:1].upper()}{words[1:]}{' (%)' if is_percentage(metric) else ''}"


def _figure(groups: Sequence[Group], metrics: Mapping[str, str], baseline: str) -> "Figure":
    experiments = by_experiment(groups)
    looks = looks_of(groups, baseline)
    figure, panels = panel_grid(len(experiments))
    for axes, (experiment, members) in zip(panels, experiments.items(), strict=True):
        for group in members:
            _draw(axes, group, metrics[experiment], *looks[group.method])
        furnish(axes, experiment, axis_label(metrics[experiment]))
    return figure


def by_experiment(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups of each experiment, in their order."""
    experiments: dict[str, list[Group]] = {}
    for group in groups:
        experiments.setdefault(group.experiment, []).append(group)
    return experiments


def panel_grid(count: int) -> tuple["Figure", list["Axes"]]:
    """A figure with so many panels, in rows of up to three.

    Args:
        count: At least 1.
    """
    from matplotlib.figure import Figure

    columns = min(count, _MOST_COLUMNS)
    rows = math.ceil(count / columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def looks_of(groups: Sequence[Group], baseline: str) -> Mapping[str, tuple[str, Any]]:
    """Give each method its colour and line style; black is the baseline's, whether it is there or not."""
    others = sorted({group.method for group in groups} - {baseline}, key=lambda method: method_key(method, baseline))
    return {
        method: (_COLORS[index % len(_COLORS)], _STYLES[index % len(_STYLES)])
        for index, method in enumerate([baseline, *others])
    }


def _draw(axes: "Axes", group: Group, metric: str, color: str, style: Any) -> None:
    epochs, means, deviations = curve(group, metric)
    scale = 100.0 if is_percentage(metric) else 1.0
    middle, half = scale * np.array(means), scale * np.array(deviations)
    count = len(group.runs)
    label = f"{group.method}, {count} seed{'s' if count != 1 else ''}"
    # A line through one point is invisible.
    marker = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, middle, color=color, linestyle=style, linewidth=1.6, marker=marker, markersize=4, label=label)
    axes.fill_between(epochs, middle - half, middle + half, color=color, alpha=0.18, linewidth=0)


def furnish(axes: "Axes", experiment: str, label: str) -> None:
    """Give a panel its title, the names of its axes and, below it, its legend."""
    from matplotlib.ticker import MaxNLocator

    # Names are no formulas: "$" would start one.
    axes.set_title(experiment, parse_math=False)
    axes.set_xlabel("Training time (epochs)")
    axes.set_ylabel(label, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels), default=0) <= _HALF_A_PANEL else 1
    labels = [textwrap.fill(each, 2 * _HALF_A_PANEL) for each in labels]
    # Below the panel, where it can't lie on a line.
    legend = axes.legend(lines, labels, loc="upper center", bbox_to_anchor=(0.5, _LEGEND_TOP), ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)

"""Draw figures in one style, which the user's settings of matplotlib don't change."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_advdrop._extras import needed
from lightning_advdrop.mask_shares import MaskShares, Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# matplotlib takes a second to import, which most users of this package need not wait for.

_MOST_COLUMNS = 3
_PANEL_INCHES = (4.4, 3.6)
_DOTS_PER_INCH = 200
_BINS = 30
#: The values of `InferenceGapMonitor`, with the style and the words of their lines.
GAP_LINES: tuple[tuple[str, Any, str], ...] = (
    ("gap/adversarial", "-", "adversarial value"),
    ("gap/random_max", (0, (5, 1, 1, 1)), "worst of the random masks"),
    ("gap/random", (0, (3, 1.5)), "mean over random masks"),
    ("gap/mean_prediction", (0, (1, 1)), "divergence of mean prediction"),
)
_GAP_COLOR = "#0072B2"
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


def as_png(make: Callable[[], Figure]) -> bytes:
    """Draw a figure and return it as the content of a PNG file.

    Args:
        make: Makes the figure, in the style of this package.
    """
    with needed("Drawing figures"):
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg

    # Defaults first: a user's matplotlibrc must not change the pictures. The backend is not ours to choose.
    style: dict[Any, Any] = {**matplotlib.rcParamsDefault, **_STYLE}
    del style["backend"]
    with matplotlib.rc_context(style), io.BytesIO() as file:
        FigureCanvasAgg(make()).print_figure(file, format="png", dpi=_DOTS_PER_INCH)
        return file.getvalue()


def panel_grid(count: int) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``count`` panels, at least 1, in rows of up to three."""
    from matplotlib.figure import Figure

    columns = min(count, _MOST_COLUMNS)
    rows = math.ceil(count / columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def whole_numbers(axis: Axis) -> None:
    """Label an axis with whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def heat_maps(sites: Collection[tuple[str, MaskShares]]) -> Figure:
    """Draw how often each unit is dropped, by unit and epoch: a panel for each site.

    Args:
        sites: The title and the shares of each panel; at least one.
    """
    figure, panels = panel_grid(len(sites))
    for axes, (title, found) in zip(panels, sites, strict=True):
        first, count = found.first_epoch, found.shares.shape[1]
        extent = (first + 0.5, first + count + 0.5, 0.0, float(found.units))
        shown = axes.imshow(found.shares, aspect="auto", origin="lower", interpolation="nearest", extent=extent, vmin=0)
        figure.colorbar(shown, ax=axes, label="Share of masks that drop it")
        axes.grid(visible=False)
        _label(axes, title, "Training time (epochs)", "Unit")
        whole_numbers(axes.xaxis)
    return figure


def gap_lines(history: Mapping[int, Mapping[str, float]]) -> Figure:
    """Draw the gap between training and inference over the epochs of one run.

    Args:
        history: By epoch, counted from 0, the values by name; at least one.
    """
    figure, (axes,) = panel_grid(1)
    epochs = sorted(history)
    drawn: list[float] = []
    for name, style, words in GAP_LINES:
        values = [history[epoch].get(name, math.nan) for epoch in epochs]
        drawn += [value for value in values if 0 < value < math.inf]
        axes.plot([epoch + 1 for epoch in epochs], values, linestyle=style, color=_GAP_COLOR, label=words)
    if drawn:
        axes.set_yscale("log")
    figure.legend(loc="outside lower center", ncols=2)  # lines may be anywhere
    _label(
        axes, "Gap between training and inference", "Training time (epochs)", "Change of the prediction (divergence)"
    )
    whole_numbers(axes.xaxis)
    return figure


def histograms(sites: Collection[tuple[str, Rows]]) -> Figure:
    """Draw how the units of each site spread in its last epoch.

    Args:
        sites: The title and the shares of each panel; at least one.
    """
    figure, panels = panel_grid(len(sites))
    for axes, (title, rows) in zip(panels, sites, strict=True):
        last = rows[rows["epoch"] == rows["epoch"].max()]
        axes.hist(last["share"], bins=_BINS, weights=last["units"], color="#0072B2")
        mean = np.average(last["share"], weights=last["units"])
        axes.axvline(mean, color="#D55E00", linestyle="--", label=f"mean {mean:.3g}")
        axes.legend()
        _label(axes, title, f"Share of masks that drop a unit, epoch {last['epoch'][0] + 1}", "Units")
    return figure


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=8, parse_math=False)  # names are no formulas: "$" would start one
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.get_yscale() == "linear":
        whole_numbers(axes.yaxis)

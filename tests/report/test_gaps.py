import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.lines import Line2D

from lightning_advdrop.drawing import GAP_LINES
from lightning_advdrop.report import ReportError, RunError, draw_gaps, find_runs, group_runs, load_run
from lightning_advdrop.report.groups import Group
from lightning_advdrop.report.plots import ADVERSARIAL, RANDOM, gaps_figure, has_curves
from tests.helpers.messages import refused
from tests.helpers.runs import make_run, make_runs, regularizer


def groups_below(root: Path) -> list[Group]:
    return group_runs([load_run(folder) for folder in find_runs([root])])[0]


def data(line: Line2D) -> list[float]:
    return [float(value) for value in np.asarray(line.get_ydata())]


def test_all_values_are_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    make_run(tmp_path / "digits" / "version_0", 0, gap=[0.01, 0.0])
    make_run(tmp_path / "digits" / "version_1", 1, gap=[0.03, 0.0])
    make_run(tmp_path / "digits" / "version_2", 0, regularizer(), gap=[0.02, 0.04])
    make_runs(tmp_path / "mnist", [0.9], gap=[0.5, math.nan])
    first, second = gaps_figure(groups_below(tmp_path), "plain").axes
    lines = first.get_lines()
    plain, adversarial = lines[:4], lines[4:8]
    for line, times in zip(plain, (3, 2, 1, 0.5), strict=True):
        assert data(line) == pytest.approx([0.02 * times, math.nan], nan_ok=True)
    for line, times in zip(adversarial, (3, 2, 1, 0.5), strict=True):
        assert data(line) == pytest.approx([0.02 * times, 0.04 * times])
    assert {line.get_color() for line in plain} == {"#000000"}
    assert len({line.get_color() for line in adversarial} | {"#000000"}) == 2
    assert len({str(style) for _, style, _ in GAP_LINES}) == 4
    assert len(first.collections) == 2 * 2  # bands of two lines, of two methods
    assert first.get_yscale() == second.get_yscale() == "log"
    assert first.get_ylim() == pytest.approx((0.005, 0.24))
    legend = first.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "plain, 2 seeds",
        "adversarial dropout, 1 seed",
        "adversarial value",
        "worst of the random masks",
        "mean over random masks",
        "divergence of mean prediction",
    ]
    assert first.get_ylabel() == "Change of the prediction (divergence)"


def test_runs_of_earlier_releases_have_two_values(tmp_path: Path) -> None:
    make_run(tmp_path / "digits" / "version_0", 0, gap=[0.01, 0.02], multiples={"adversarial": 3})
    make_run(tmp_path / "digits" / "version_1", 1, gap=[0.01, 0.02])
    (axes,) = gaps_figure(groups_below(tmp_path), "plain").axes
    legend = axes.get_legend()
    assert legend is not None
    names = ["plain, 2 seeds", "adversarial value", "mean over random masks"]
    assert [text.get_text() for text in legend.get_texts()] == names
    assert [data(line) for line in axes.get_lines()[:2]] == [pytest.approx([0.03, 0.06]), pytest.approx([0.01, 0.02])]


def test_nothing_above_zero_is_no_reason_to_fail(tmp_path: Path) -> None:
    make_runs(tmp_path / "runs" / "digits", [0.9], gap=[0.0, 0.0])
    draw_gaps(groups_below(tmp_path), tmp_path / "gap.png")
    assert imread(tmp_path / "gap.png").shape == (720, 880, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "gap.png"}


def test_a_gap_needs_both_values(tmp_path: Path) -> None:
    with_gap, without = (
        load_run(make_run(tmp_path / "digits" / f"version_{number}", number, gap=gap))
        for number, gap in enumerate(([0.1, 0.1], []))
    )
    assert has_curves(with_gap, [RANDOM, ADVERSARIAL])
    assert not has_curves(without, [RANDOM, ADVERSARIAL])
    with refused("metrics.csv", "'gap/adversarial'", error=RunError):
        draw_gaps([Group("digits", "plain", (without,))], tmp_path / "gap.png")
    with refused("groups", "one", "none", error=ReportError):
        draw_gaps([], tmp_path / "gap.png")

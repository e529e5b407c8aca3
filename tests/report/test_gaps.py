import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from lightning_advdrop.report import ReportError, RunError, draw_gaps, find_runs, group_runs, load_run
from lightning_advdrop.report.figures import has_curves
from lightning_advdrop.report.groups import Group
from lightning_advdrop.report.plots import ADVERSARIAL, RANDOM, gaps_figure
from tests.helpers.messages import refused
from tests.helpers.runs import make_run, make_runs, regularizer


def groups_below(root: Path) -> list[Group]:
    return group_runs([load_run(folder) for folder in find_runs([root])])[0]


def test_both_values_are_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    make_run(tmp_path / "digits" / "version_0", 0, gap=[0.01, 0.0])
    make_run(tmp_path / "digits" / "version_1", 1, gap=[0.03, 0.0])
    make_run(tmp_path / "digits" / "version_2", 0, regularizer(), gap=[0.02, 0.04])
    make_runs(tmp_path / "mnist", [0.9], gap=[0.5, math.nan])
    first, second = gaps_figure(groups_below(tmp_path), "plain").axes
    plain, plain_random, adversarial, adversarial_random, *_ = first.get_lines()
    np.testing.assert_allclose(np.asarray(plain.get_ydata(), float), [0.06, math.nan])
    np.testing.assert_allclose(np.asarray(plain_random.get_ydata(), float), [0.02, math.nan])
    np.testing.assert_allclose(np.asarray(adversarial.get_ydata(), float), [0.06, 0.12])
    assert plain.get_color() == plain_random.get_color() == "#000000" != adversarial.get_color()
    assert adversarial.get_color() == adversarial_random.get_color()
    assert plain.get_linestyle() != plain_random.get_linestyle()
    assert first.get_yscale() == second.get_yscale() == "log"
    assert first.get_ylim() == pytest.approx((0.01, 0.24))
    legend = first.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "plain, 2 seeds",
        "adversarial dropout, 1 seed",
        "adversarial value",
        "mean over random masks",
    ]
    assert first.get_ylabel() == "Change of the prediction (divergence)"


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

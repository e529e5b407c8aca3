import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from lightning_advdrop.report import ReportError, RunError, draw_curves, find_runs, group_runs, load_run
from lightning_advdrop.report.groups import Group
from lightning_advdrop.report.metrics import axis_label
from lightning_advdrop.report.plots import curve, curves_figure, looks_of
from tests.helpers.messages import refused
from tests.helpers.runs import make_run, make_runs, regularizer


def groups_below(root: Path) -> list[Group]:
    return group_runs([load_run(folder) for folder in find_runs([root])])[0]


def test_curves_are_those_computed_by_hand(tmp_path: Path) -> None:
    make_run(tmp_path / "digits" / "version_0", 0, val=[0.5, 0.7, math.nan, 0.9])
    make_run(tmp_path / "digits" / "version_1", 1, val=[0.7, 0.7, 0.8])
    (group,) = groups_below(tmp_path)
    epochs, means, deviations = curve(group, "val/accuracy")
    assert epochs == [1, 2, 3, 4]
    assert means == pytest.approx([0.6, 0.7, math.nan, 0.9], nan_ok=True)
    assert deviations == pytest.approx([math.sqrt(0.02), 0.0, math.nan, math.nan], nan_ok=True)


def test_the_figure_has_a_panel_for_each_experiment_and_says_what_it_shows(tmp_path: Path) -> None:
    make_runs(tmp_path / "$digits$_1", [0.9, 0.9], val=[0.5, 0.75])
    make_runs(tmp_path / "$digits$_1", [0.9], regularizer(), first=2, val=[0.25])
    make_runs(tmp_path / "mnist", [0.9], regularizer())
    figure = curves_figure(groups_below(tmp_path), {"$digits$_1": "val/accuracy", "mnist": "val/accuracy"}, "plain")
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["$digits$_1", "mnist"]
    assert {(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes} == {
        ("Training time (epochs)", "Validation accuracy (%)")
    }
    legends = [axes.get_legend() for axes in (first, second)]
    assert [[text.get_text() for text in legend.get_texts()] for legend in legends if legend] == [
        ["plain, 2 seeds", "adversarial dropout, 1 seed"],
        ["adversarial dropout, 1 seed"],
    ]
    plain, adversarial = first.get_lines()
    assert np.asarray(plain.get_ydata()).tolist() == [50.0, 75.0]
    assert (plain.get_marker(), adversarial.get_marker()) == ("", "o")
    assert plain.get_color() != adversarial.get_color()
    assert adversarial.get_color() == second.get_lines()[0].get_color()


def test_panels_without_an_experiment_are_removed(tmp_path: Path) -> None:
    for name in "abcd":
        make_runs(tmp_path / name, [0.9])
    assert len(curves_figure(groups_below(tmp_path), dict.fromkeys("abcd", "train/loss"), "plain").axes) == 4


def test_each_experiment_has_its_own_metric_and_axis(tmp_path: Path) -> None:
    make_runs(tmp_path / "digits", [0.9], val=[0.5, 0.75])
    make_runs(tmp_path / "ptb", [70.0], name="perplexity", val=[90.0, 80.0])
    first, second = curves_figure(
        groups_below(tmp_path), {"digits": "val/accuracy", "ptb": "val/perplexity"}, "plain"
    ).axes
    assert (first.get_ylabel(), second.get_ylabel()) == ("Validation accuracy (%)", "Validation perplexity")
    assert np.asarray(first.get_lines()[0].get_ydata()).tolist() == [50.0, 75.0]
    assert np.asarray(second.get_lines()[0].get_ydata()).tolist() == [90.0, 80.0]
    assert not first.get_shared_y_axes().joined(first, second)


def test_each_method_has_a_look_of_its_own_and_the_baseline_is_black() -> None:
    groups = [Group("digits", f"method {index}", ()) for index in range(27)]
    looks = looks_of(groups, "plain")
    assert looks["plain"] == ("#000000", "-")
    assert len(set(looks.values())) == 28
    assert looks == looks_of(groups[::-1], "plain")


def test_the_file_is_a_picture_and_nothing_else_is_left(tmp_path: Path) -> None:
    make_runs(tmp_path / "runs" / "digits", [0.9, 0.9])
    before = dict(matplotlib.rcParams)
    (tmp_path / "curves.png").write_text("an older one")
    draw_curves(groups_below(tmp_path), {"digits": "val/accuracy"}, tmp_path / "curves.png")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "curves.png"}
    assert imread(tmp_path / "curves.png").shape == (720, 880, 4)
    assert dict(matplotlib.rcParams) == before


def test_a_failure_leaves_the_older_picture(tmp_path: Path) -> None:
    make_runs(tmp_path / "runs" / "digits", [0.9])
    (tmp_path / "curves.png").write_text("an older one")
    with refused("metrics.csv", "'val/f1'", error=RunError):
        draw_curves(groups_below(tmp_path), {"digits": "val/f1"}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_text() == "an older one"


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with refused("groups", "one", "none", error=ReportError):
        draw_curves([], {}, tmp_path / "curves.png")


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("test/error_rate", "Test error rate (%)"),
        ("train/loss", "Training loss"),
        ("advdrop/flip_rate", "Advdrop flip rate"),
        ("perplexity", "Perplexity"),
        ("val/head/loss", "Val head loss"),
    ],
)
def test_axes_are_labelled_in_words(metric: str, label: str) -> None:
    assert axis_label(metric) == label

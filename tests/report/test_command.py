import base64
import io
import re
import sys
from pathlib import Path

import pytest

from lightning_advdrop.report import load_run
from tests.helpers.messages import each_names, names
from tests.helpers.reports import report
from tests.helpers.runs import make_run, make_runs, regularizer, write_masks

LOGGED = "test/accuracy, test/loss, train/loss, train/penalty, val/accuracy, val/loss"
OTHER_BASELINE = ("Note", "digits", "'plain'", "--baseline", "adversarial dropout")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_table_and_figure_are_written_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.80, 0.82, 0.84])
    make_runs(Path("runs/digits"), [0.82, 0.86, 0.90], regularizer(), first=3, minutes=5)
    assert report("runs") == 0
    out, err = capsys.readouterr()
    assert out.replace("\N{EN DASH}", "~") == (
        "| experiment | method              | seeds | mean test/accuracy (%) | std (%) | vs. plain (points) |     p |"
        " minutes |\n"
        "| :--------- | :------------------ | ----: | ---------------------: | ------: | -----------------: | ----: |"
        " ------: |\n"
        "| digits     | plain               |     3 |                  82.00 |    2.00 |                  ~ |     ~ |"
        "     2.0 |\n"
        "| digits     | adversarial dropout |     3 |                  86.00 |    4.00 |              +4.00 | 0.074 |"
        "     5.0 |\n"
    )
    assert each_names([err], [("report/report.md", "report/report.html", "report/curves.png")])
    assert sorted(path.name for path in Path("report").iterdir()) == ["curves.png", "report.html", "report.md"]
    page = Path("report/report.md").read_text(encoding="utf-8")
    assert f"\n\n{out}\n" in page
    assert re.search(r"!\[.+\]\(curves\.png\)", page)
    assert "Remarks" not in page


def test_arguments_are_followed(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [None], val=[0.5, 0.7], minutes=0)
    make_runs(Path("runs/digits"), [None], regularizer(), first=1, val=[0.5, 0.8], minutes=0)
    arguments = (
        "--output",
        "a/b",
        "--metric",
        "val/loss",
        "--curve",
        "train/loss",
        "--baseline",
        "adversarial dropout",
    )
    assert report("runs/digits/version_0", "runs/digits/version_1", *arguments) == 0
    out, err = capsys.readouterr()
    assert [[cell.strip() for cell in line.split("|")[2:-1]] for line in out.splitlines()[2:]] == [
        ["adversarial dropout", "1", "0.3000", *["\N{EN DASH}"] * 3],
        ["plain", "1", "0.4000", "\N{EN DASH}", "+0.1000", "\N{EN DASH}"],
    ]
    assert each_names([err], [("a/b/report.md", "a/b/report.html", "a/b/curves.png")])
    page = Path("a/b/report.md").read_text(encoding="utf-8")
    assert "Training loss over the epochs" in page
    assert "Minutes" not in page


def test_what_is_left_out_is_said_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.8, 0.9])
    make_run(Path("runs/digits/version_5"), 1, modified=100)
    make_run(Path("runs/digits/version_6"), 7, test=None)
    make_run(Path("runs/digits/version_7"), 8, val=[])
    Path("runs/digits/version_8").mkdir()
    Path("empty").mkdir()
    assert report("runs", "missing", "empty") == 0
    out, err = capsys.readouterr()
    *said, _ = err.splitlines()
    expected = [
        ("Left out", "runs/digits/version_8", "metrics.csv", "CSVLogger"),
        ("Left out", "missing", "no such folder"),
        ("Left out", "empty", "metrics.csv", "CSVLogger"),
        ("Left out", "runs/digits/version_6", "metrics.csv", "'test/accuracy'"),
        ("Note", "runs/digits/version_1", "runs/digits/version_5", "seed 1"),
        ("Note", "digits", "trainer.max_epochs (0, 2)"),
        ("Note", "runs/digits/version_7", "figure", "'val/accuracy'"),
    ]
    assert each_names(said, expected)
    assert [cell.strip() for cell in out.splitlines()[2].split("|")[3:5]] == ["3", "86.67"]
    page = Path("report/report.md").read_text(encoding="utf-8")
    assert page.endswith("## Remarks\n\n" + "".join(f"- {line.partition(': ')[2]}\n" for line in said))


def test_the_page_in_html_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/<digits>"), [0.8, 0.9])
    make_run(Path("runs/<digits>/version_6"), 7, test=None)
    assert report("runs") == 0
    page = Path("report/report.html").read_text(encoding="utf-8")
    picture = base64.b64encode(Path("report/curves.png").read_bytes()).decode()
    assert f'<img src="data:image/png;base64,{picture}" alt="Validation accuracy (%)">' in page
    assert '<td class="text">&lt;digits&gt;</td><td class="text">plain</td><td>2</td><td>85.00</td>' in page
    assert re.search(names("<li>runs/&lt;digits&gt;/version_6", "metrics.csv", "&#x27;test/accuracy&#x27;</li>"), page)
    assert "<code>test/accuracy</code>" in page
    assert "<digits>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_gap_and_masks_are_drawn_where_they_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    plain = make_runs(Path("runs/digits"), [0.8, 0.9], gap=[0.01, 0.02])
    found = make_runs(Path("runs/digits"), [0.8, 0.9], regularizer(), first=2, gap=[0.02, 0.01])
    make_run(Path("runs/digits/version_9"), 5)
    write_masks(found[0], [[0.5, 0.25], [0.25, 0.75]])
    write_masks(found[1], [[0.5, 0.25], [0.25, 0.75]])
    assert report("runs") == 0
    err = capsys.readouterr().err
    note = ("Note", "runs/digits/version_9", "gap plot", "'gap/random'", "'gap/adversarial'")
    written = [f"report/{name}" for name in ("report.md", "report.html", "curves.png", "gap.png", "masks.png")]
    assert each_names(err.splitlines(), [note, written])
    text = Path("report/report.md").read_text(encoding="utf-8")
    assert re.findall(r"!\[.+\]\((.+)\)", text) == ["curves.png", "gap.png", "masks.png"]
    assert Path("report/report.html").read_text(encoding="utf-8").count("<img src=") == 3
    assert len(plain) == 2


def test_a_damaged_masks_file_is_named_and_another_run_taken(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_runs(Path("runs/digits"), [0.8, 0.9], regularizer())
    (first / "masks.csv").write_text("epoch,share\n")
    write_masks(second, [[0.5]])
    assert report("runs") == 0
    note = ("Note", "runs/digits/version_0", "heat map", "masks.csv", "epoch,site,unit,units,share")
    assert each_names(capsys.readouterr().err.splitlines()[:-1], [OTHER_BASELINE, note])
    assert Path("report/masks.png").exists()


def test_many_sites_are_drawn_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = make_runs(Path("runs/digits"), [0.8], regularizer())
    write_masks(run, *[[[0.5]]] * 13)
    assert report("runs") == 0
    note = ("Note", "heat map", 12, 13, "sites")
    assert each_names(capsys.readouterr().err.splitlines()[:-1], [OTHER_BASELINE, note])


def test_a_run_that_was_not_tested_does_not_hide_an_older_one(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("runs/digits/version_0"), 1, test=0.8)
    make_run(Path("runs/digits/version_1"), 1, test=None)
    assert report("runs") == 0
    assert "80.00" in capsys.readouterr().out


def test_an_experiment_without_baseline_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.8], regularizer())
    assert report("runs") == 0
    assert each_names(capsys.readouterr().err.splitlines()[:-1], [OTHER_BASELINE])


def test_a_run_that_diverged_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.8, float("nan")])
    assert report("runs") == 0
    out, err = capsys.readouterr()
    assert each_names(err.splitlines()[:-1], [("Note", "runs/digits/version_1", "test/accuracy=nan")])
    assert " nan |" in out


def test_an_unknown_metric_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.8, 0.9])
    assert report("runs", "--metric", "test/acc") == 2
    out, err = capsys.readouterr()
    assert out == ""
    error = ("Error", "runs", 2, "'test/acc'", "metrics.csv", LOGGED, "--metric", "`test`")
    assert each_names(err.splitlines()[-1:], [error])
    assert not Path("report").exists()


def test_nothing_left_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/digits/version_0").mkdir(parents=True)
    assert report("runs", "missing") == 2
    looked = ("'test/accuracy'", "'test/error'", "'test/perplexity'", "'test/loss'")
    needed = ("RUNS", "version_<n>/metrics.csv", "config.yaml", "`fit`")
    error = capsys.readouterr().err.splitlines()[-1]
    assert each_names([error], [("Error", "runs, missing", 2, *looked, *needed)])


def test_an_unknown_curve_is_refused_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.8])
    assert report("runs", "--curve", "val/acc") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert each_names(err.splitlines(), [("Error", "'val/acc'", "metrics.csv", LOGGED, "--curve")])
    assert not Path("report").exists()


def test_an_output_that_is_no_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.8])
    Path("report").write_text("a file")
    assert report("runs") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert each_names(err.splitlines(), [("Error", "report cannot be written", "name a folder that can be written")])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("count", "shown"), [(20, False), (21, True)])
def test_many_runs_have_a_progress_bar(monkeypatch: pytest.MonkeyPatch, count: int, shown: bool) -> None:
    make_runs(Path("runs/digits"), [0.8] * count, val=[0.5])
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert report("runs") == 0
    assert ("Reading runs" in terminal.getvalue()) is shown


def test_methods_are_told_apart_by_settings_too(capsys: pytest.CaptureFixture[str]) -> None:
    for version, (size, rate) in enumerate([(8, 0.1), (16, 0.1), (16, 0.2)]):
        model = {"init_args": {"hidden_size": size, "learning_rate": rate}}
        make_run(Path("runs/digits") / f"version_{version}", 0, model=model)
    settings = ("--by", "model.init_args.hidden_size", "--by", "model.init_args.learning_rate")
    assert report(*settings, "runs", "--baseline", "plain (hidden_size=8, learning_rate=0.1)") == 0
    out, err = capsys.readouterr()
    methods = [line.split("|")[2].strip() for line in out.splitlines()[2:]]
    assert methods == [
        f"plain (hidden_size={size}, learning_rate={rate})" for size, rate in ((8, 0.1), (16, 0.1), (16, 0.2))
    ]
    assert err.startswith("Wrote")
    assert report("--by", "model.size", "runs") == 2
    differ = ("model.init_args.hidden_size", "model.init_args.learning_rate")
    assert each_names(capsys.readouterr().err.splitlines(), [("Error", "by", "'model.size'", *differ)])


OF_STEPS = {
    # Single steps had the name of their mean over the epoch, and no epoch.
    "old": """\
step,advdrop/divergence,epoch,test/accuracy,train/loss_step
0,9.0,,,
9,,0,,0.5
9,1.0,0,,
10,9.0,,,
19,2.0,1,,0.5
20,,2,0.8,
""",
    "new": """\
step,advdrop/divergence,advdrop/divergence_step,epoch,test/accuracy,train/loss_step
0,,9.0,0,,0.5
9,1.0,,0,,
10,,9.0,1,,0.5
19,2.0,,1,,
20,,,2,0.8,
""",
}


def test_metrics_of_single_steps_are_read_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    folders = make_runs(Path("runs/digits"), [0.8, 0.8], regularizer())
    for folder, content in zip(folders, OF_STEPS.values(), strict=True):
        (folder / "metrics.csv").write_text(content)
        series = load_run(folder).history["advdrop/divergence"]
        assert (series.last, series.by_epoch) == (2.0, {0: 1.0, 1: 2.0})
    assert report("runs", "--curve", "advdrop/divergence") == 0
    assert report("runs", "--curve", "train/loss_step") == 0
    assert "is not in the figure" not in capsys.readouterr().err
    assert "Training loss of single steps over the epochs" in Path("report/report.md").read_text(encoding="utf-8")
    assert report("runs", "--curve", "advdrop/divergence_step") == 0
    assert re.search(names("version_0", "figure", "'advdrop/divergence_step'"), capsys.readouterr().err)

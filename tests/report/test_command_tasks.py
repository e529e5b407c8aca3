import re
from pathlib import Path

import pytest

from tests.helpers.messages import each_names
from tests.helpers.reports import report
from tests.helpers.runs import make_runs, regularizer


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_runs_of_every_task() -> None:
    make_runs(Path("runs/digits"), [0.80, 0.82])
    make_runs(Path("runs/imdb"), [0.25, 0.27], name="error", val=[0.4, 0.3])
    make_runs(Path("runs/imdb"), [0.2, 0.21], regularizer(), first=2, name="error", val=[0.4, 0.3])
    make_runs(Path("runs/imdb_pretrain"), [200.5], name="perplexity", val=[300.0, 250.0])
    make_runs(Path("runs/ptb"), [70.25], name="perplexity", val=[90.0, 80.0])
    make_runs(Path("runs/ptb"), [None], regularizer(), first=1, name="perplexity", val=[90.0, 80.0])


def test_each_experiment_is_reported_by_its_metric(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs_of_every_task()
    assert report("runs") == 0
    out, err = capsys.readouterr()
    tables = [
        [[cell.strip() for cell in line.split("|")[1:5]] for line in table.splitlines() if not line.startswith("| :")]
        for table in out.split("\n\n")
    ]
    assert tables == [
        [["experiment", "method", "seeds", "mean test/accuracy (%)"], ["digits", "plain", "2", "81.00"]],
        [
            ["experiment", "method", "seeds", "mean test/error (%)"],
            ["imdb", "plain", "2", "26.00"],
            ["imdb", "adversarial dropout", "2", "20.50"],
        ],
        [
            ["experiment", "method", "seeds", "mean test/perplexity"],
            ["imdb_pretrain", "plain", "1", "200.50"],
            ["ptb", "plain", "1", "70.25"],
        ],
    ]
    left_out = ("Left out", "runs/ptb/version_1", "metrics.csv", "'test/perplexity'")
    assert each_names(err.splitlines(), [left_out, ("report/report.md", "report/report.html", "report/curves.png")])


def test_a_page_of_several_metrics_names_them_and_their_direction() -> None:
    make_runs_of_every_task()
    assert report("runs") == 0
    text = Path("report/report.md").read_text(encoding="utf-8")
    headings = ["test/accuracy", "test/error", "test/perplexity"]
    assert re.findall(r"^#+ .+$", text, re.MULTILINE) == [
        f"# Report: {', '.join(headings)}",
        *(f"## {heading}" for heading in headings),
        "## Remarks",
    ]
    assert "\n`test/accuracy`, `test/error` or `test/perplexity` is the last value that a run logged" in text
    assert "Lower is better for `test/error` and `test/perplexity`." in text
    assert "![Validation accuracy (%), validation error (%) and validation perplexity](curves.png)" in text
    assert text.count("Lower is better for `val/error` and `val/perplexity`.") == 1
    page = Path("report/report.html").read_text(encoding="utf-8")
    assert re.findall("<h2>(.+)</h2>", page) == [*headings, "Remarks"]
    assert page.count("<table>") == 3
    assert "Lower is better for <code>val/error</code> and <code>val/perplexity</code>.</figcaption>" in page


def test_one_metric_has_no_heading_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/ptb"), [70.25], name="perplexity", val=[90.0, 80.0])
    assert report("runs") == 0
    text = Path("report/report.md").read_text(encoding="utf-8")
    assert re.findall(r"^#+ .+$", text, re.MULTILINE) == ["# Report: test/perplexity"]
    assert text.count("Lower is better.") == 2
    assert "<h2>" not in Path("report/report.html").read_text(encoding="utf-8")
    assert "| ptb" in capsys.readouterr().out


def test_a_metric_that_is_asked_for_leaves_the_other_experiments_out(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs_of_every_task()
    assert report("runs/digits", "runs/ptb", "--metric", "test/perplexity") == 0
    out, err = capsys.readouterr()
    assert [line.split("|")[1].strip() for line in out.splitlines()[2:]] == ["ptb"]
    left_out = [("Left out", f"runs/digits/version_{version}", "'test/perplexity'") for version in (0, 1)]
    assert each_names(err.splitlines()[:2], left_out)
    assert "Validation perplexity over the epochs" in Path("report/report.md").read_text(encoding="utf-8")


def test_runs_without_a_validation_have_a_table_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(Path("runs/digits"), [0.8], val=[])
    assert report("runs") == 0
    note = ("Note", "runs/digits/version_0", "figure", "'val/accuracy'")
    assert each_names(capsys.readouterr().err.splitlines(), [note, ("report/report.md", "report/report.html")])
    assert not Path("report/curves.png").exists()

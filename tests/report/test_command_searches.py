"""The command `advdrop report` with results of `advdrop tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.messages import each_names
from tests.helpers.reports import report
from tests.helpers.searches import COLUMNS, failed, with_test, without_test, write_runs, write_search

DOCS = "before\n<!-- advdrop report: begin -->\nold\n<!-- advdrop report: end -->\nafter\n"


def test_the_command_writes_the_page_and_its_place_in_the_docs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, gain in (("a", 0.1), ("b", 0.05)):
        write_search(tmp_path / "study" / f"{name}.csv", {"none": [0.3, 0.4], "r_drop": [0.3 - gain, 0.4 - gain]})
    docs = tmp_path / "page.md"
    docs.write_text("before\n<!-- advdrop report: begin -->\nold\n<!-- advdrop report: end -->\nafter\n", "utf-8")

    code = report(str(tmp_path / "study"), "--output", str(tmp_path / "out"), "--docs", str(docs))

    assert code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.md", "report.html", "ranks.png"}
    printed = capsys.readouterr().out
    assert "| r_drop | 2.0" in printed
    text = docs.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- advdrop report: begin -->\n| method")
    assert text.endswith("end -->\nafter\n")
    assert "old" not in text
    assert "in 2 searches" in text
    assert "](images/ranks.png)" in text
    assert (tmp_path / "images" / "ranks.png").read_bytes() == (tmp_path / "out" / "ranks.png").read_bytes()


def test_wrong_arguments_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_search(tmp_path / "a.csv", {"none": [0.3], "r_drop": [0.2]})
    empty = tmp_path / "b.csv"
    empty.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    output = ["--output", str(tmp_path / "out")]

    assert report(str(path), *output, "--baseline", "plian") == 2
    assert "baseline must be a method of all searches, none, r_drop; got 'plian'." in capsys.readouterr().err
    assert report(str(empty), *output) == 2
    assert "found no search with a result" in capsys.readouterr().err
    assert report(str(path), *output, "--docs", str(tmp_path / "none.md")) == 2
    assert (
        "docs must be a Markdown file in UTF-8 with the lines '<!-- advdrop report: begin -->'"
        in capsys.readouterr().err
    )
    for option in ("--metric", "--curve", "--by"):
        assert report(str(path), *output, option, "val/loss") == 2
        assert f"{option[2:]} must not be given for results of `advdrop tune`, got " in capsys.readouterr().err
    assert report(str(path), str(tmp_path / "typo"), *output) == 0
    assert f"Left out: {tmp_path / 'typo'} has no results of `advdrop tune`" in capsys.readouterr().err
    assert report(str(tmp_path / "missing"), *output, "--docs", "x.md") == 2
    assert "docs needs results of `advdrop tune`, got none in" in capsys.readouterr().err


@pytest.mark.parametrize("content", [DOCS.replace("old", "caf\u00e9").encode("latin-1"), b"no lines", None])
def test_wrong_docs_are_told_before_anything_is_written(
    content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_search(Path("a.csv"), {"none": [0.3], "r_drop": [0.2]})
    if content is not None:
        Path("page.md").write_bytes(content)

    assert report("a.csv", "--docs", "page.md") == 2

    out, err = capsys.readouterr()
    assert out == ""
    allowed = ("docs", "UTF-8", "<!-- advdrop report: begin -->", "<!-- advdrop report: end -->")
    assert each_names(err.splitlines(), [("Error", *allowed, "'page.md'")])
    assert not Path("report").exists()


def test_the_file_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_search(Path("a.csv"), {"none": [0.3], "r_drop": [0.2]})
    Path("docs").mkdir()
    Path("docs/page.md").write_text(DOCS)
    Path("docs/images").write_text("a file")

    assert report("a.csv", "--docs", "docs/page.md") == 2
    assert each_names(
        capsys.readouterr().err.splitlines(), [("Error", "docs/images cannot be written", "name a folder")]
    )

    Path("report/ranks.png").unlink()
    Path("report/ranks.png").mkdir()
    assert report("a.csv") == 2
    assert each_names(capsys.readouterr().err.splitlines(), [("Error", "report/ranks.png cannot be written")])


def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_search(Path("tune/runs.csv"), {"none": [0.3], "r_drop": [0.2]})
    real: Any = Path.open

    def deny(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "runs.csv":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", deny)
    assert report("tune") == 2
    assert each_names(capsys.readouterr().err.splitlines(), [("Error", "cannot be read", "tune/runs.csv")])


def test_failures_and_missing_seeds_are_remarks_under_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    none = [with_test("none", seed, value) for seed, value in enumerate([1.0, 5.0, 1.0], 1)]
    write_runs(Path("a.csv"), *none, with_test("r_drop", 1, 1.0), failed("r_drop", 2), with_test("r_drop", 3, 1.0))
    write_runs(Path("b.csv"), *none, with_test("r_drop", 1, 1.5))
    write_runs(Path("c.csv"), without_test("none", 1, 2.0), with_test("r_drop", 1, 1.0, 2.5))

    assert report("a.csv", "b.csv", "c.csv") == 0

    out, err = capsys.readouterr()
    notes = [
        "c: not all runs were tested, so that the results are those of the validation, val/loss",
        "a: r_drop is the worst, since it has no finite result with seed 2",
        "b: the means are over the seeds that the methods share: 1",
    ]
    assert err.splitlines() == [f"Note: {note}" for note in notes]
    page = Path("report/report.md").read_text()
    assert page.endswith("## Remarks\n\n" + "".join(f"- {note}\n" for note in notes))
    first, *_ = (line for line in out.splitlines() if line.startswith("| none"))
    assert [cell.strip() for cell in first.split("|")[1:4]] == ["none", "1.0", "1.0"]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[-3:]]
    assert cells == [
        ["a", "3", "2.333 (2.309)", "nan (nan)"],
        ["b", "1", "1.000", "1.500"],
        ["c", "1", "2.000", "2.500"],
    ]

"""The curve of errors by budget: its data don't overlap, its runs repeat, and what it writes follows from its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.benchmarks import budget_curve as curve
from tests.benchmarks import saved_runs
from tests.benchmarks.page import DOCS
from tests.benchmarks.saved_runs import Row

ROWS = [Row(method, seed, 10.0 + seed + place, 1.0) for place, method in enumerate(curve.METHODS) for seed in (1, 2)]


def test_training_and_test_images_are_different_ones() -> None:
    data = curve.FewDigits(by="row")
    images, labels, *_ = data.load_training()
    test_images, test_labels = data.load_test()
    assert len(images) == len(labels) == curve.IMAGES
    assert len(test_images) == len(test_labels) == curve.TEST_IMAGES
    everything = torch.cat([images, test_images]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == len(everything)


def test_a_run_gives_the_same_error_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = curve.run("random_3", 5, small=True)
    path = tmp_path / "runs.csv"
    saved_runs.write(path, [first], curve.METHODS)
    assert curve.main([str(path), "--small", "--repeat", "random_3", "5"]) == 0
    assert f"{first.error} % in the file, {first.error} % now" in capsys.readouterr().out


def test_the_interval_is_that_of_student() -> None:
    middle, half = curve.interval([1.0, 2.0, 3.0])
    assert middle == 2
    assert half == pytest.approx(4.30265 / 3**0.5, rel=1e-5)


def test_differences_are_paired_by_seed() -> None:
    rows = [Row("a", 1, 5.0, 0), Row("a", 2, 7.0, 0), Row("b", 2, 4.0, 0), Row("b", 3, 9.0, 0)]
    assert curve.differences(rows, "a", "b") == [3.0]


def test_the_table_has_a_line_for_each_budget_and_reference() -> None:
    lines = [*curve.table(ROWS)]
    assert "| 1 | 14.50 (0.71) | 19.50 (0.71) | +5.00 ± 0.00 |" in lines
    assert "| no mask | 11.50 (0.71) |" in lines
    assert "Means over 2 seeds, with the standard deviation in brackets." in lines


def test_the_documentation_shows_what_the_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = saved_runs.read(curve.FILE)
    assert {(row.method, row.seed) for row in rows} == {(each, seed) for each in curve.METHODS for seed in curve.SEEDS}
    page = (DOCS / "choosing.md").read_text(encoding="utf-8")
    assert "\n".join(curve.table(rows)) in page
    (tmp_path / "choosing.md").write_text(page, encoding="utf-8")
    monkeypatch.setattr(curve, "DOCS", tmp_path)
    monkeypatch.setattr(curve, "PICTURE", tmp_path / "images" / "curve.png")
    curve.write_docs(rows)
    assert (tmp_path / "choosing.md").read_text(encoding="utf-8") == page
    assert curve.PICTURE.stat().st_size < 150_000

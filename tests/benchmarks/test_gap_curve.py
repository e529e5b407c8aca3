"""The curve of the gap: its runs are taken up where they stopped, and its pictures show what the files hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import gap_curve as curve
from tests.benchmarks.gap_curve import Point


def test_a_run_measures_the_gap_at_each_interval() -> None:
    found = curve.run("adversarial", 3, epochs=2 * curve.INTERVAL)
    assert [point[:3] for point in found] == [("adversarial", 3, 5), ("adversarial", 3, 10)]
    assert all(point.random > 0 and point.adversarial > 0 for point in found)


def test_runs_that_the_file_has_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []

    def run(method: str, seed: int, epochs: int) -> list[Point]:
        made.append((method, seed))
        return [Point(method, seed, epochs, 0.1, 0.2)]

    monkeypatch.setattr(curve, "run", run)
    path = tmp_path / "data" / "points.csv"
    points = curve.train_missing(path, epochs=5)
    assert made == [(method, seed) for seed in curve.SEEDS for method in curve.METHODS]
    assert curve.train_missing(path, epochs=5) == points == curve.read(path)
    assert len(made) == len(points)


def test_pictures_are_drawn_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = curve.read(curve.FILE)
    assert {point[:2] for point in points} == {(method, seed) for method in curve.METHODS for seed in curve.SEEDS}
    monkeypatch.setattr(curve, "IMAGES", tmp_path)
    assert curve.main([]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"inference_gap.png", "overview.png"}
    (left, right) = curve.overview(points).axes
    assert len(left.lines) == 4
    assert right.get_xlabel() == "Further drops in the second pass, of 100 units"

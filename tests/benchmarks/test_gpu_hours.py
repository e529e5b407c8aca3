"""The estimate of GPU hours: its arithmetic, and that it has all full configurations."""

from __future__ import annotations

import pytest

from lightning_advdrop.files import configs_folder
from tests.benchmarks import gpu_hours
from tests.benchmarks.gpu_hours import Work, table, work_of
from tests.benchmarks.page import DOCS


def test_hours_of_one_layer_by_hand() -> None:
    work = Work(updates=3600, passes=2, steps=10, examples=5, layers=((3, 7),))
    # 4 gates of 7 units from 10 values: 280 multiply-adds, of two operations, for three products, 5 examples, 10 steps.
    arithmetic = 280 * 2 * 3 * 5 * 10 / 2e12
    assert work.hours(2.0, 0.0) == pytest.approx(2 * arithmetic)
    assert work.hours(1e9, 4.0) == pytest.approx(2 * 30 * 10 * 4e-6)


def test_what_configurations_consist_of() -> None:
    assert work_of("smnist") == Work(250 * 550, 3, 784, 100, ((1, 100),))
    # 929,589 words in batches of 20 x 70.
    assert work_of("ptb") == Work(750 * 664, 3, 70, 20, ((400, 1150), (1150, 1150), (1150, 400)), 400 * 10_000)
    assert work_of("ptb_finetune").passes == 1
    assert work_of("imdb_bidirectional") == Work(15_000, 3, 400, 128, ((256, 1024), (256, 1024)))
    assert work_of("imdb_pretrain").scores == 1024 * 2002


def test_all_full_configurations_are_in_the_page() -> None:
    files = {path.name for path in configs_folder().glob("*.yaml")}
    full = {name for name in files if "small" not in name} - {"quickstart.yaml", "smnist_rows.yaml"}
    found = table(10.0, 2.0)
    assert {line.split("`")[1] for line in found.splitlines() if line.startswith("| `")} == full
    assert found in (DOCS / "reproducing.md").read_text(encoding="utf-8")


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_hours.main(["--tflops", "20", "--microseconds", "1"]) == 0
    assert "attains 20 TFLOP/s in float32 products, with 1 microseconds" in capsys.readouterr().out

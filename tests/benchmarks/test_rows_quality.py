"""The table of test errors: its runs repeat, its file survives a kill, and the control drops at random."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_advdrop import MNISTDataModule
from lightning_advdrop.regularizers import AdversarialDropout
from tests.benchmarks import rows_quality as quality
from tests.benchmarks import saved_runs
from tests.benchmarks.saved_runs import Row
from tests.helpers.recording import passes_of

ROWS = [Row("label", 0, 8.0, 3.0), Row("plain", 1, 13.0, 1.0), Row("plain", 0, 12.0, 2.0)]


def test_a_run_gives_the_same_error_again() -> None:
    first = quality.run("label", 3, small=True)
    torch.rand(7)
    quality.run("plain", 3, small=True)
    again = quality.run("label", 3, small=True)
    assert first[:3] == again[:3]
    assert quality.run("label", 4, small=True).error != first.error
    assert 0 < first.error < 100


def test_the_file_keeps_all_rows_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert saved_runs.read(path) == []
    saved_runs.write(path, ROWS, quality.METHODS)
    assert saved_runs.read(path) == [ROWS[2], ROWS[1], ROWS[0]]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_what_is_missing_is_made_seed_by_seed() -> None:
    methods = ["plain", "label", "top"]
    assert saved_runs.missing(ROWS, methods, (0, 1)) == [("top", 0), ("label", 1), ("top", 1)]


def test_the_table_has_means_deviations_and_seeds() -> None:
    _, _, plain, label = quality.table(ROWS)
    assert plain == "| plain | 12.50 | 0.71 | 12.00 13.00 |"
    assert label == "| label search, 3 % | 8.00 |  | 8.00 |"


def command(path: Path) -> list[str]:
    options = ["--small", "--methods", "plain", "label", "--seeds", "0"]
    return [sys.executable, "-m", "tests.benchmarks.rows_quality", str(path), *options]


def test_a_killed_table_goes_on_and_its_rows_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = tmp_path / "rows.csv", Path(__file__).parents[2]
    process = subprocess.Popen(command(path), cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 300
        while not path.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (first,) = kept = saved_runs.read(path)
    assert first.method == "plain"

    made: list[tuple[str, int]] = []
    monkeypatch.setattr(saved_runs, "ProcessPoolExecutor", _InThisProcess(made))
    assert quality.main([str(path), *command(path)[4:]]) == 0
    assert made == [("label", 0)]  # and not the one before it
    rows = saved_runs.read(path)
    assert [row.method for row in rows] == ["plain", "label"]
    assert rows[0] == kept[0]
    assert f"| plain | {first.error:.2f} |" in capsys.readouterr().out

    repeat = [str(path), "--small", "--repeat", "plain", "0"]
    assert quality.main(repeat) == 0
    saved_runs.write(path, [first._replace(error=first.error + 1)], quality.METHODS)
    assert quality.main(repeat) == 1
    assert f"plain, seed 0: {first.error + 1} % in the file, {first.error} % now" in capsys.readouterr().out


class _InThisProcess:
    """In place of a pool of processes; it notes the runs."""

    def __init__(self, made: list[tuple[str, int]]) -> None:
        self.made = made

    def __call__(self, *_: Any) -> _InThisProcess:
        return self

    def __enter__(self) -> _InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, run: Any, method: str, seed: int, small: bool) -> Any:
        future: Future[Row] = Future()
        self.made.append((method, seed))
        future.set_result(run(method, seed, small))
        return future


def test_a_worker_ends_with_its_parent() -> None:
    code = "import os, time; from tests.benchmarks.saved_runs import end_with_parent as end; end(-1); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 1


def test_the_control_drops_as_many_units_at_random() -> None:
    mask = (torch.arange(24.0).reshape(2, 12) % 3 > 0).float()  # 8 of 12 units are kept
    found = quality._further(mask, 5, torch.Generator().manual_seed(0))
    assert (found <= mask).all()
    assert found.sum(-1).tolist() == [3, 3]
    other = quality._further(mask, 5, torch.Generator().manual_seed(1))
    assert not torch.equal(found, other)


def test_the_control_is_a_regularizer_whose_search_is_random() -> None:
    torch.manual_seed(0)
    model = _Last()
    control = quality.RandomDrops(rate=0.25, divergence="kl")
    assert isinstance(control, AdversarialDropout)
    masks = [control.penalty(passes_of(control, model, torch.randn(5, 3, 2), seed=seed)).masks for seed in (1, 2)]
    (one,), (two,) = ([*each.values()] for each in masks)
    assert one.sum(-1).tolist() == two.sum(-1).tolist() == [6, 6, 6]  # of 8 units
    assert not torch.equal(one, two)


class _Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.lstm(x)[0][-1]
        return last


@pytest.mark.real_data
def test_the_first_images_are_those_of_the_file(real_data_root: Path) -> None:
    data, whole = quality.FirstImages(real_data_root, by="row"), MNISTDataModule(real_data_root, by="row")
    images, labels, *_ = data.load_training()
    all_images, all_labels, *_ = whole.load_training()
    assert len(images) == quality.IMAGES
    assert torch.equal(images, all_images[:1000])
    assert torch.equal(labels, all_labels[:1000])
    data.setup("fit")
    assert sum(len(y) for _, y in data.train_dataloader()) == quality.IMAGES

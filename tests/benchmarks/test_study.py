"""The study: its methods train, its runs repeat, and its data are divided as it says."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_advdrop.report.searches import read_search
from tests.benchmarks.study import __main__ as study
from tests.benchmarks.study.methods import METHODS
from tests.benchmarks.study.more_seeds import read_lines
from tests.benchmarks.study.series import Series, read
from tests.benchmarks.study.tasks import TASKS, SeriesTask
from tests.helpers.studied import built_at_lowest, result_of

_SERIES = {task.series: task for task in TASKS.values() if isinstance(task, SeriesTask) and task.series != "digits"}


@pytest.mark.parametrize("name", METHODS)
def test_each_method_trains(name: str, tmp_path: Path) -> None:
    parts = built_at_lowest("digits_lstm", name, tmp_path, small=True)

    found = result_of("digits_lstm", parts, tmp_path)

    assert 0 < found["value"] < 3
    assert 0 < found["test"] < 1


def test_a_task_is_searched_method_by_method_and_a_run_of_its_file_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["digits_lstm", "--small", "--data", str(tmp_path / "data")]
    search = [*words, "--folder", str(tmp_path / "searches"), "--trials", "1", "--seeds", "2", "--methods"]

    assert study.main([*search, "r_drop"]) == 0
    assert study.main([*search, "none"]) == 0  # beside the other one's runs

    path = tmp_path / "data" / "digits_lstm.csv"
    found = read_search(path)
    assert found.metric == "test/error"
    assert {method: [*seeds] for method, seeds in found.results.items()} == {"none": [1, 2], "r_drop": [1, 2]}
    assert study.main([*words, "--repeat", "r_drop", "2"]) == 0
    assert "digits_lstm, r_drop, seed 2" in capsys.readouterr().out
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(str(found.results["r_drop"][2]), "0.123"), encoding="utf-8")
    assert study.main([*words, "--repeat", "r_drop", "2"]) == 1


def test_more_seeds_take_the_values_that_were_found_and_go_on(tmp_path: Path) -> None:
    words = ["digits_lstm", "--small", "--data", str(tmp_path / "study"), "--methods", "r_drop"]
    assert study.main([*words, "--folder", str(tmp_path / "searches"), "--trials", "1", "--seeds", "1"]) == 0

    assert study.main([*words, "--more-seeds", "2"]) == 0

    found = read_lines(tmp_path / "study" / "digits_lstm.csv")
    path = tmp_path / "more_seeds" / "digits_lstm.csv"
    first, second = read_lines(path)
    assert first == found[-1]
    assert (second["phase"], second["number"], second["seed"]) == ("seeds", "1", "2")
    assert second["values"] == first["values"]
    assert second["result"] == second["test"] != first["test"]
    text = path.read_text(encoding="utf-8").replace(second["test"], "0.123")
    path.write_text(text, encoding="utf-8")
    assert study.main([*words, "--more-seeds", "3"]) == 0
    assert [line["test"] for line in read_lines(path)][:2] == [first["test"], "0.123"]  # not made again


def test_a_task_takes_the_values_of_another_one(tmp_path: Path) -> None:
    words = ["--small", "--data", str(tmp_path / "study"), "--methods", "r_drop"]
    searched = ["digits_lstm", *words, "--folder", str(tmp_path / "searches"), "--trials", "1", "--seeds", "1"]
    assert study.main(searched) == 0

    assert study.main(["digits_gru", *words, "--values-of", "digits_lstm", "--more-seeds", "2"]) == 0

    found = read_lines(tmp_path / "study" / "digits_lstm.csv")[-1]
    first, second = read_lines(tmp_path / "transferred" / "digits_gru.csv")
    assert first["values"] == second["values"] == found["values"]
    assert (first["seed"], second["seed"]) == ("1", "2")
    assert first["test"] != found["test"]
    assert (
        study.main(["digits_gru", "--small", "--data", str(tmp_path / "transferred"), "--repeat", "r_drop", "2"]) == 0
    )


def _write(path: Path, results: dict[str, list[float]]) -> None:
    head = "method,phase,seed,values,metric,result,step_seconds\n"
    lines = [
        f"{name},seeds,{seed},{{}},test/error,{value},\n"
        for name in results
        for seed, value in enumerate(results[name])
    ]
    path.write_text(head + "".join(lines), encoding="utf-8")


def test_paired_differences_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "digits_lstm.csv", {"none": [0.2, 0.3, 0.4], "r_drop": [0.1, 0.2, 0.33]})
    _write(tmp_path / "digits_gru.csv", {"none": [0.2, 0.3]})
    words = ["digits_lstm", "digits_gru", "--data", str(tmp_path), "--methods", "none", "r_drop"]

    assert study.main([*words, "--against", "none"]) == 0

    # -10, -10 and -7 points: the mean is -9, the deviation sqrt(3), and 4.3027 the quantile of t with two degrees.
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["task", "none", "r drop"]
    assert lines[2:] == [
        ["digits_lstm", "30.00", "-9.00 (-13.30 to -4.70)"],
        ["digits_gru", "25.00", "\N{EN DASH}"],
    ]

    assert study.main([*words, "--against", "none", "--first-seed", "1"]) == 0

    # -10 and -7 points: the mean is -8.5, the deviation sqrt(4.5), and 12.706 the quantile with one degree.
    assert re.search(r"\| 35\.00 +\| +-8\.50 \(-27\.56 to \+10\.56\)", capsys.readouterr().out)


def _parts(seed: int) -> dict[str, bytes]:
    data = Series("digits", 100, 1, 32, seed)
    data.setup("fit")
    return {name: part.sequences.numpy().tobytes() for name, part in data.parts.items()}


def test_the_test_data_are_the_same_for_each_seed_and_nothing_is_in_two_parts() -> None:
    series, labels = read("digits", 1)
    data = Series("digits", 100, 1, 32, 5)
    data.setup("fit")
    sizes = {name: len(part) for name, part in data.parts.items()}
    assert sizes == {"train": 100, "val": 898 - 100, "test": 899}
    assert sum(sizes.values()) == len(series) == len(labels)
    counts = np.bincount(data.parts["train"].labels.numpy())
    assert counts.min() >= 9
    assert counts.max() <= 11
    # The features are scaled by the training data of each seed, so that labels in their order tell the examples.
    other = Series("digits", 100, 1, 32, 6)
    other.setup("fit")
    for name, same in (("test", True), ("train", False)):
        first, second = (each.parts[name].labels for each in (data, other))
        assert torch.equal(first, second) is same


def test_two_setups_of_one_seed_are_equal() -> None:
    assert _parts(7) == _parts(7)


@pytest.mark.parametrize("name", sorted(_SERIES))
def test_series_of_the_package_are_read(name: str) -> None:
    pytest.importorskip("aeon", reason="the package aeon, which has the data sets of the study, is not installed")
    task = _SERIES[name]
    series, labels = read(name, task.patch)
    assert series.shape[2] == task.features
    assert series.isfinite().all()
    assert np.unique(labels.numpy()).tolist() == [*range(task.classes)]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aeon.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"GunPoint comes with the package aeon, .* pip install 'aeon>=1.6'"):
        read("GunPoint", 1)


def test_saved_runs_are_of_the_tasks_and_methods() -> None:
    for path in study.DATA.rglob("*.csv"):
        assert path == study.file_of(path.stem, study.DATA)
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.DictReader(file) if line["phase"] == "seeds"]
        methods = {line["method"] for line in lines}
        assert {*TASKS[path.stem].methods} <= methods <= {*METHODS}
        assert {line["state"] for line in lines} == {"complete"}
        assert len(lines) == len(methods) * study.SEEDS


def test_saved_runs_with_more_seeds_are_of_the_same_search() -> None:
    for path in (study.DATA.parent / "more_seeds").glob("*.csv"):
        more, found = read_search(path), read_search(study.file_of(path.stem, study.DATA))
        for method, errors in more.results.items():
            assert [*errors] == [*range(1, 21)]
            assert {seed: errors[seed] for seed in range(1, 6)} == found.results[method]


def test_saved_runs_with_the_values_of_another_task_are_complete() -> None:
    values_of = {"reviews_2000": "reviews_500"}
    for path in (study.DATA.parent / "transferred").rglob("*.csv"):
        assert path == study.file_of(path.stem, study.DATA.parent / "transferred")
        found = {
            line["method"]: line["values"]
            for line in read_lines(study.file_of(values_of[path.stem], study.DATA))
            if line["phase"] == "seeds"
        }
        for line in read_lines(path):
            assert line["values"] == found[line["method"]]
        assert all([*errors] == [*range(1, 6)] for errors in read_search(path).results.values())

"""Runs of the commands that were killed are resumed from the last good checkpoint, and the best one survives."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lightning_advdrop.checkpoint_files import AtomicCheckpointIO
from lightning_advdrop.cli import ExperimentCLI, main, run_experiment
from lightning_advdrop.cli.resuming import last_checkpoint
from tests.cli.test_cli import QUICK
from tests.helpers.damage import flip_a_weight
from tests.helpers.full_disk import largest_file
from tests.helpers.killing import killed_while_saving
from tests.helpers.messages import names, refused
from tests.helpers.resuming import difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:The `srun` command is available", "ignore:This process .* is multi-threaded:DeprecationWarning"
)

RUNS = Path("runs/quickstart")


def fit(*options: str, epochs: int = 4) -> ExperimentCLI:
    return run_experiment([*QUICK, "--trainer.max_epochs", str(epochs), *options])


@pytest.fixture(autouse=True)
def _no_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


def weights(command: ExperimentCLI) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in command.model.state_dict().items()}


def rows(version: int) -> list[dict[str, str]]:
    """What a run logged in each epoch, and in the test at its end."""
    with (RUNS / f"version_{version}" / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    return [
        {name: value for name, value in row.items() if value}
        for row in found
        if row.get("train/loss") or row.get("test/loss")
    ]


def test_a_killed_run_is_resumed_from_the_last_good_checkpoint() -> None:
    """It is killed when half of a checkpoint is written; that of an epoch before is still there."""
    whole = fit("--test_after_fit", "last")
    killed_while_saving(lambda: fit("--regularizer.init_args.log_every_n_steps", "2"), save=5)
    folder = RUNS / "version_1" / "checkpoints"
    assert list(folder.glob(".*.part"))
    finished = torch.load(folder / "last.ckpt", weights_only=True)["epoch"] + 1
    assert 0 < finished < 4
    resumed = fit("--test_after_fit", "last", "--regularizer.init_args.log_every_n_steps", "2", "--ckpt_path", "last")
    assert (RUNS / "version_2" / "checkpoints" / "last.ckpt").is_file()
    assert difference(weights(whole), weights(resumed)) == []
    assert rows(0)[finished:] == rows(2)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def write_run(
    root: Path, name: str, config: dict[str, Any], seconds: int, spoil: Callable[[Path], None] | None = None
) -> Path:
    """A run's folder with a configuration and a checkpoint of a certain age."""
    path = root / name / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"run": name, "weight": torch.linspace(0, 1, 500)}, path)
    if spoil is not None:
        spoil(path)
    (root / name / "config.yaml").write_text(yaml.safe_dump(config))
    os.utime(path, (seconds, seconds))
    return path


def test_the_last_checkpoint_is_the_newest_whole_one_of_the_same_experiment(tmp_path: Path) -> None:
    config = {"seed_everything": 0, "model": {"class_path": "a"}, "data": {"class_path": "b"}, "regularizer": None}
    assert last_checkpoint(tmp_path, config) is None
    wanted = write_run(tmp_path, "version_1", config | {"trainer": {"max_epochs": 3}}, 20)
    write_run(tmp_path, "version_0", config, 10)
    write_run(tmp_path, "version_2", config, 30, truncate)
    write_run(tmp_path, "version_4", config, 35, flip_a_weight)
    for number, part in enumerate(("seed_everything", "model", "data", "regularizer")):
        write_run(tmp_path, f"version_1{number}", config | {part: "other"}, 40)
    write_run(tmp_path, "version_3", config, 50).parents[1].joinpath("config.yaml").unlink()
    for name, content in (("cut", b"model: {class_path: a"), ("not_a_text", b"\xff\xfe"), ("empty", b"")):
        write_run(tmp_path, name, config, 60).parents[1].joinpath("config.yaml").write_bytes(content)
    assert last_checkpoint(tmp_path, config) == wanted


def test_only_checkpoints_of_the_experiment_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be large: neither those of others are, nor older ones."""
    config = {"seed_everything": 0}
    newest = [write_run(tmp_path, f"version_{number}", config, number) for number in (1, 2, 3)][-1]
    write_run(tmp_path, "version_9", {"seed_everything": 1}, 9)
    read: list[Path] = []
    monkeypatch.setattr("lightning_advdrop.cli.resuming.check_whole", lambda _, path: read.append(path))
    assert last_checkpoint(tmp_path, config) == newest
    assert read == [newest]


@pytest.mark.filterwarnings("ignore:.*there is no last checkpoint available")
def test_without_an_earlier_run_the_last_checkpoint_is_the_beginning() -> None:
    """So that one command can be given again and again until a run is through."""
    assert fit("--test_after_fit", "null", "--ckpt_path", "last", epochs=1).trainer.current_epoch == 1


@pytest.mark.parametrize("command", ["fit", "test"])
def test_without_a_logger_the_last_checkpoint_is_refused(command: str) -> None:
    with refused("ckpt_path", "trainer.logger", "'last'"):
        run_experiment([command, *QUICK[1:], "--trainer.logger", "false", "--ckpt_path", "last"])
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_checkpoint_of_slurm_must_be_there(command: str) -> None:
    with refused("ckpt_path", "'hpc'", "hpc_ckpt_N.ckpt", str(Path.cwd()), "'last'"):
        run_experiment([command, *QUICK[1:], "--ckpt_path", "hpc"])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_the_last_checkpoint_is_evaluated(command: str) -> None:
    options = [command, *QUICK[1:], "--ckpt_path", "last"]
    with refused("ckpt_path", "'last'", RUNS, "same seed"):
        run_experiment(options)
    assert not RUNS.exists()
    fit("--test_after_fit", "null", epochs=1)
    found = run_experiment(options)
    assert found.trainer.ckpt_path == str(RUNS / "version_0" / "checkpoints" / "last.ckpt")
    saved = torch.load(str(found.trainer.ckpt_path), weights_only=True)["state_dict"]
    assert difference(weights(found), saved) == []


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_damaged_last_checkpoint_is_passed_over() -> None:
    """It is the newest; the run before has a whole one."""
    options = ["test", *QUICK[1:], "--ckpt_path", "last"]
    paths = [RUNS / f"version_{number}" / "checkpoints" / "last.ckpt" for number in (0, 1)]
    for path in paths:
        fit("--test_after_fit", "null", epochs=1)
        os.utime(path, (number := paths.index(path) + 1, number))
    flip_a_weight(paths[1])
    assert run_experiment(options).trainer.ckpt_path == str(paths[0])
    flip_a_weight(paths[0])
    with refused("ckpt_path", "'last'", "no whole checkpoint", RUNS):
        run_experiment(options)


@pytest.mark.parametrize(("size", "place"), [(1000, "config.yaml"), (10_000, "checkpoints/best.ckpt")])
def test_no_room_for_what_a_fit_writes(size: int, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    with largest_file(size):
        assert main([*QUICK, "--test_after_fit", "null"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(names("Error", RUNS / "version_0" / place, "cannot be written", "make room"), said)


class Theirs(TorchCheckpointIO):
    """Another way of writing checkpoints."""


def test_a_way_of_writing_checkpoints_that_is_asked_for_is_taken() -> None:
    plugin = f"--trainer.plugins={{class_path: {__name__}.Theirs}}"
    for option, kind in (("--trainer.plugins=null", AtomicCheckpointIO), (plugin, Theirs)):
        command = run_experiment([*QUICK[1:], option], run=False)
        assert type(command.trainer.strategy.checkpoint_io) is kind

"""Where runs write their configuration and their checkpoints, and are found again, with every logger."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_advdrop.cli import main, run_experiment
from lightning_advdrop.cli.run_config import run_folders
from lightning_advdrop.loggers import WandbRunLogger
from tests.cli.test_cli import QUICK
from tests.helpers.plain_models import PlainModel
from tests.helpers.wandb_files import read_offline_runs

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path("runs/lightning-advdrop")
pytestmark = pytest.mark.filterwarnings(
    "ignore:The `srun` command is available", "ignore:Checkpoint directory .* exists and is not empty"
)


@pytest.fixture(autouse=True)
def _as_if_the_process_began() -> Iterator[None]:
    """Weights & Biases reads the environment once in a process."""
    wandb.teardown()
    yield
    wandb.teardown()


def loggers(*others: dict[str, Any]) -> str:
    """The option that logs to Weights & Biases first."""
    first = {"class_path": "WandbLogger", "init_args": {"project": RUNS.name, "save_dir": "runs"}}
    return f"--trainer.logger={yaml.safe_dump([first, *others], default_flow_style=True)}"


def csv(save_dir: str) -> dict[str, Any]:
    return {"class_path": "CSVLogger", "init_args": {"save_dir": save_dir, "name": "digits"}}


class Service(Logger):
    """A logger of somebody's that has no folder, as that of a service."""

    name, version = "digits", "abc"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send them."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Send them."""


@pytest.mark.parametrize(
    "made",
    [
        lambda: CSVLogger("runs", name="a", version="b"),
        lambda: CSVLogger(Path("runs"), name=""),
        lambda: TensorBoardLogger("runs", name="a"),
        lambda: WandbRunLogger(save_dir="runs", project="a", mode="offline"),
        Service,
    ],
)
def test_the_first_folder_is_that_of_the_checkpoints(made: Any) -> None:
    logger: Logger = made()
    checkpoints = ModelCheckpoint()
    trainer = Trainer(logger=[logger, CSVLogger("csv")], callbacks=[checkpoints], accelerator="cpu")
    checkpoints.setup(trainer, PlainModel(), "fit")
    first, *others = run_folders(trainer)
    assert Path(first) / "checkpoints" == Path(str(checkpoints.dirpath))
    assert others == ["csv/lightning_logs/version_0"]
    assert run_folders(Trainer(logger=False, accelerator="cpu")) == []


def test_runs_whose_first_logger_is_weights_and_biases_have_a_folder_each_and_are_resumed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = (loggers(csv("curves")), "--test_after_fit", "null")
    run_experiment([*QUICK, *options])
    run_experiment([*QUICK, *options, "--seed_everything", "1"])
    capsys.readouterr()
    run_experiment([*QUICK, *options, "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    wandb.teardown()
    first, other, resumed = (each.run.run_id for each in read_offline_runs())
    assert first == resumed != other
    assert {path.name for path in RUNS.iterdir()} == {first, other}
    for name, seed, epoch in ((first, 0, 1), (other, 1, 0)):
        assert yaml.safe_load((RUNS / name / "config.yaml").read_text())["seed_everything"] == seed
        assert torch.load(RUNS / name / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == epoch
    assert not Path("runs/config.yaml").exists()
    # `advdrop report` reads the configuration beside the curves.
    assert len(list(Path("curves/digits").glob("version_[012]/config.yaml"))) == 3


def test_a_start_that_fails_leaves_no_folder_of_any_logger() -> None:
    assert main([*QUICK, loggers(csv("curves")), "--regularizer.init_args.sites", "embedding"]) == 2
    assert not list(Path().iterdir())


def test_a_service_as_the_only_logger_keeps_the_configuration_beside_the_checkpoints() -> None:
    run_experiment([*QUICK, f"--trainer.logger={__name__}.Service", "--test_after_fit", "null"])
    assert Path("digits/abc/config.yaml").is_file()
    assert Path("digits/abc/checkpoints/last.ckpt").is_file()


def test_one_of_two_processes_writes_the_configuration() -> None:
    options = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--test_after_fit", "null", "--ckpt_path", "last")
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lightning_advdrop", *QUICK, *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert finished.returncode == 0, finished.stderr
    assert [path.name for path in Path("runs/quickstart").iterdir()] == ["version_0"]
    assert [path.name for path in Path("runs/quickstart/version_0").glob("config*")] == ["config.yaml"]
    assert Path("runs/quickstart/version_0/checkpoints/last.ckpt").is_file()

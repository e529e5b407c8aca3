"""`advdrop tune` on a configuration of a user's, killed in the middle and resumed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lightning_advdrop.cli import main, run_experiment
from lightning_advdrop.cli.tuning import Configured

ROOT = Path(__file__).parents[2]
CONFIG = {
    "model": {"class_path": "tests.helpers.tuned.Tagger", "init_args": {"hidden_size": 5}},
    "data": {"class_path": "tests.helpers.tuned.Sequences"},
    "trainer": {"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1},
}
TUNE = ["tune", "--config", "my.yaml", "--methods", "r_drop,none", "--trials", "3", "--seeds", "2"]
# Shorter than by default, so that the test needn't wait a minute for the dead run to be noticed.
PROGRAM = """
import sys
from lightning_advdrop.cli import main
from lightning_advdrop.tuning import database
database.HEARTBEAT, database.GRACE = 1, 3
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _config() -> None:
    Path("my.yaml").write_text(yaml.safe_dump(CONFIG))


def started(*more: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, *TUNE, *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def runs() -> list[dict[str, str]]:
    with Path("tune/runs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("jobs", [1, 2])
def test_it_is_killed_and_resumed(jobs: int) -> None:
    slow = ("--trainer.max_epochs", "8", "--jobs", str(jobs))
    process = started(*slow)
    deadline = time.monotonic() + 300
    while not list(Path("tune").glob(".run-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path("tune/best.yaml").exists()
    process = started(*slow)
    told, noted = process.communicate()
    assert process.returncode == 0, noted
    assert told.startswith("| method")
    search = [run for run in runs() if run["phase"] == "search"]
    lost = [run for run in search if run["state"] == "fail"]
    ended = [run["values"] for run in search if run["state"] in ("complete", "pruned")]
    assert lost
    assert not any(run["error"] for run in lost)
    assert len(ended) == 3
    assert len(search) == 3 + len(lost)
    # Killed before or after it had drawn its values: with them, they are tried again.
    assert all(run["values"] == "{}" or run["values"] in ended for run in lost)
    assert not list(Path("tune").glob(".run-*"))
    seeds = [(run["method"], run["seed"]) for run in runs() if run["phase"] == "seeds"]
    assert sorted(seeds) == [("none", "1"), ("none", "2"), ("r_drop", "1"), ("r_drop", "2")]


def test_the_best_configuration_is_ready_for_a_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, "--trials", "1", "--metric", "val/loss"]) == 0
    assert "| r_drop" in capsys.readouterr().out
    written = yaml.safe_load(Path("tune/best.yaml").read_text())
    assert written["model"]["init_args"]["hidden_size"] == 5
    command = run_experiment(["fit", "--config", "tune/best.yaml", "--trainer.max_epochs", "1"])
    assert command.trainer.callback_metrics["val/loss"] > 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--methods", "r_dorp"], "'r_drop'"),
        (["--budget", "soon"], "budget"),
        (["--trials", "0"], "trials"),
        (["--spaces", "no.yaml"], "spaces"),
        (["--metric", "val/los"], "mode"),
        (["--metric", "val/los", "--mode", "min"], "val/loss"),
        (["--metric", "val/los", "--mode", "min", "--jobs", "2"], "val/loss"),
        (["--config", "no-such-name"], "config"),
    ],
)
def test_it_refuses_in_a_sentence(options: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, *options]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("Error: ")
    assert part in said


def test_an_option_that_is_none_of_the_fit_ends_it_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*TUNE, "--trainer.max_epoks", "1"])
    assert stopped.value.code == 2
    assert "'trainer.max_epochs'" in capsys.readouterr().err
    assert not Path("tune").exists()


@pytest.mark.parametrize("option", [["--config", "my.yaml"], ["--config=my.yaml"], ["-c", "my.yaml"]])
def test_a_configuration_that_has_changed_is_noticed(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    short = ["tune", *option, "--methods", "none", "--seeds", "1"]
    assert main(short) == 0
    Path("my.yaml").write_text(yaml.safe_dump(CONFIG).replace("hidden_size: 5", "hidden_size: 6"))
    assert main(short) == 2
    assert "another experiment: '    hidden_size: 5', got '    hidden_size: 6'" in capsys.readouterr().err


def test_an_experiment_is_what_its_options_say() -> None:
    """Not how they say it, nor which files they name: those may be changed."""
    Path("model.yaml").write_text(yaml.safe_dump(CONFIG["model"]))
    base = Configured(("--config", "my.yaml", "--trainer.max_epochs", "3")).description
    assert Configured(("-c=my.yaml", "--trainer.max_epochs=3")).description == base
    named = ("--config", "my.yaml", "--trainer.max_epochs", "3", "--model", "model.yaml")
    assert Configured(named).description == base
    Path("model.yaml").write_text(yaml.safe_dump(CONFIG["model"]).replace("hidden_size: 5", "hidden_size: 6"))
    assert Configured(named).description != base


def test_the_configuration_of_a_fit_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    command = run_experiment(["fit", "--config", "my.yaml", "--trainer.max_epochs", "1"])
    assert main(["tune", "--config", f"{command.trainer.log_dir}/config.yaml", *TUNE[3:]]) == 0
    assert "| r_drop" in capsys.readouterr().out
    # Its best configuration is one for a fit again.
    run_experiment(["fit", "--config", "tune/best.yaml"])


def test_a_checkpoint_is_refused_where_nothing_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, "--ckpt_path", "last.ckpt"]) == 2
    assert "ckpt_path must be null where nothing is resumed, got 'last.ckpt'" in capsys.readouterr().err
    assert not Path("tune").exists()
    assert main([*TUNE, "--methods", "none", "--seeds", "1", "--ckpt_path", "last.ckpt", "--ckpt_path", "null"]) == 0


def test_an_upload_that_cannot_be_is_refused_before_any_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr("lightning_advdrop.wandb_settings.has_key", lambda: False)
    assert main([*TUNE, "--wandb", "mine"]) == 2
    assert "WANDB_MODE is 'online'" in capsys.readouterr().err
    assert not Path("tune").exists()


def test_the_table_is_printed_before_an_upload_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("lightning_advdrop.cli.tuning.upload_result", failing)
    with pytest.raises(ConnectionError):
        main([*TUNE, "--methods", "none", "--seeds", "1", "--wandb", "mine"])
    assert "| none" in capsys.readouterr().out


def test_every_method_is_parsed_before_any_run(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"class_path": "lightning_advdrop.RDropCallback", "init_args": {"weight": "heavy"}}
    Path("mine.yaml").write_text(yaml.safe_dump({"regularizer": wrong}))
    with pytest.raises(SystemExit):
        main([*TUNE, "--methods", "none,mine.yaml"])
    assert "heavy" in capsys.readouterr().err
    assert not Path("tune").exists()


def test_it_goes_on_with_the_same_experiment_only(capsys: pytest.CaptureFixture[str]) -> None:
    short = [*TUNE, "--methods", "none", "--seeds", "1"]
    assert main(short) == 0
    assert main([*short, "--trainer.max_epochs", "1"]) == 2
    assert "another experiment: '  max_epochs: 2', got '  max_epochs: 1'" in capsys.readouterr().err

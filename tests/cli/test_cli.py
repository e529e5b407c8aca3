"""The commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_advdrop.callbacks.training_step import attached_regularizers
from lightning_advdrop.cli import ExperimentCLI, main, run_experiment
from tests.helpers.messages import names, refused

CONFIGS = Path(__file__).parents[2] / "configs"

QUICK = (
    *("fit", "--config", str(CONFIGS / "quickstart.yaml")),
    *("--data.init_args.by", "row", "--data.init_args.train_size", "100"),
    *("--model.init_args.input_size", "8", "--model.init_args.hidden_size", "8"),
    *("--model.init_args.rampdown_epochs", "0", "--trainer.max_epochs", "1"),
    *("--trainer.log_every_n_steps", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
)

pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


def quick(*more: str) -> ExperimentCLI:
    return run_experiment([*QUICK, *more])


def test_a_fit_trains_tests_and_writes_its_config() -> None:
    command = quick()
    folder = Path("runs/quickstart/version_0")
    assert "test/accuracy" in (folder / "metrics.csv").read_text()
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written["regularizer"]["class_path"] == "lightning_advdrop.AdversarialDropoutCallback"
    assert list(folder.glob("checkpoints/best*.ckpt"))
    assert command.trainer.callback_metrics["test/accuracy"] >= 0
    assert list(Path("runs/wandb").glob("offline-run-*"))


def test_plain_training_is_one_override_away() -> None:
    command = quick("--regularizer", "null")
    assert "advdrop/divergence" not in Path("runs/quickstart/version_0/metrics.csv").read_text()
    assert yaml.safe_load(Path("runs/quickstart/version_0/config.yaml").read_text())["regularizer"] is None
    assert command.trainer.callback_metrics["test/accuracy"] >= 0


def test_regularizer_options_can_be_overridden() -> None:
    command = quick("--regularizer.init_args.rate", "0.5")
    rates = [c.regularizer.rate for c in attached_regularizers(command.model)]  # type: ignore[attr-defined]
    assert rates == [0.5]


@pytest.mark.parametrize("regularizer", [[], ["--regularizer", "null"]])
def test_a_loss_that_is_no_number_ends_the_fit_with_a_sentence(
    regularizer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    diverging = ("--model.init_args.learning_rate", "1e38", "--data.init_args.batch_size", "20")
    assert main([*QUICK, *diverging, *regularizer]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(names("Error", "finite", "learning rate"), said)


@pytest.mark.filterwarnings("ignore:Experiment logs directory", "ignore:Checkpoint directory")
def test_two_runs_in_one_folder_keep_both_configs() -> None:
    same_folder = "--trainer.logger+={class_path: CSVLogger, init_args: {save_dir: here, name: one, version: ''}}"
    for _ in range(2):
        run_experiment([*QUICK, "--trainer.logger", "null", same_folder, "--regularizer", "null"])
    assert sorted(path.name for path in Path("here/one").glob("config*.yaml")) == ["config-1.yaml", "config.yaml"]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_can_be_tested_validated_and_predicted_from() -> None:
    quick()
    checkpoint = next(Path("runs/quickstart/version_0/checkpoints").glob("best*.ckpt"))
    options = [*QUICK[1:], "--ckpt_path", str(checkpoint)]
    options = (
        options[: options.index("--model.init_args.rampdown_epochs")] + options[-4:] + ["--trainer.max_epochs", "1"]
    )
    for command in ("test", "validate", "predict"):
        assert main([command, *options]) == 0


@pytest.mark.parametrize("program", ["advdrop", "lightning"])
def test_unknown_commands_are_refused(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [])  # Lightning 2.4 has a `lightning`, too
    assert main(["launch"], program) == 2
    message = capsys.readouterr().err
    allowed = "fit, validate, test, predict, report, sites, tune, configs, classify, cache, generate"
    assert re.search(names(program, "'launch'", allowed), message)
    assert ("lightning-sdk or litserve" in message) == (program == "lightning")


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "lightning {fit,validate,test,predict} --config FILE" not in capsys.readouterr().out
    assert main(["--help"], "lightning") == 0
    assert "lightning {fit,validate,test,predict} --config FILE" in capsys.readouterr().out


def test_report_is_a_command() -> None:
    quick("--regularizer", "null")
    assert main(["report", "runs", "--output", "out"]) == 0
    assert Path("out/report.md").exists()
    assert Path("out/curves.png").exists()


def test_sites_shows_where_masks_act(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", *QUICK[1:]]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "AdversarialDropoutCallback",
        "",
        "| site                    | layer      | mask   | rate         |",
        "| ----------------------- | ---------- | ------ | ------------ |",
        "| model.lstm.l0:recurrent | MaskedLSTM | (B, 8) | the callback |",
    ]
    assert not Path("runs").exists()


def test_sites_of_plain_training_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", *QUICK[1:], "--regularizer", "null"]) == 2
    assert re.search(names("Error", "regularizer", "null"), capsys.readouterr().err)


def test_wandb_never_asks_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", "none")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with refused("`wandb login`", "WANDB_API_KEY"):
        quick()


def test_the_module_can_be_run() -> None:
    command = [sys.executable, "-m", "lightning_advdrop", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONFIGS.parent)
    assert result.stdout == "lightning-advdrop 0.1.0\n"

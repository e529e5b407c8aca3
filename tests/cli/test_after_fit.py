"""What a fit says, how many threads compute it, and the short help."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import XLAAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lightning_advdrop import DigitsDataModule, LanguageModelingTask
from lightning_advdrop.cli import ExperimentCLI, main, run_experiment
from lightning_advdrop.cli.summary import end_of_fit
from lightning_advdrop.cli.threads import SMALL, one_thread_for, recurrent_size
from tests.cli.test_cli import CONFIGS, QUICK

pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


@pytest.fixture(autouse=True)
def _no_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


def test_the_end_names_the_best_checkpoint_the_folder_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    command = run_experiment(QUICK)
    said = capsys.readouterr().out.splitlines()[-3:]
    score = float(command.trainer.checkpoint_callbacks[0].best_model_score)  # type: ignore[attr-defined]
    assert said == [
        f"Best checkpoint:  runs/quickstart/version_0/checkpoints/best.ckpt (val/accuracy {score:.4g})",
        "Run folder:       runs/quickstart/version_0",
        "Compare runs:     advdrop report runs/quickstart",
    ]
    assert Path("runs/quickstart/version_0/checkpoints/best.ckpt").is_file()


def test_an_offline_run_is_named_with_the_command_that_uploads_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()  # it remembers the working folder of an earlier test
    run_experiment(QUICK)
    wandb.teardown()
    (line,) = (each for each in capsys.readouterr().out.splitlines() if each.startswith("Weights & Biases:"))
    words = line.split()
    assert words[3:5] == ["wandb", "sync"]
    assert list(Path(words[5]).glob("*.wandb"))


@pytest.mark.parametrize(("there", "said"), [(True, "best.ckpt"), (False, "")])
def test_a_best_checkpoint_without_a_score_or_a_file(there: bool, said: str) -> None:
    """A resumed fit that saves nothing knows the path of the run before, not the score."""
    callback = ModelCheckpoint(monitor="val/loss")
    callback.best_model_path = "best.ckpt"
    if there:
        Path("best.ckpt").touch()
    told = end_of_fit(Trainer(logger=False, callbacks=[callback], accelerator="cpu"))
    assert told.removeprefix("Best checkpoint:").strip() == said


def test_nothing_that_a_user_cannot_change_is_warned_of() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_experiment([*QUICK, "--trainer.log_every_n_steps", "50"])
    told = [str(each.message) for each in caught]
    assert not [each for each in told if any(word in each for word in ("LeafSpec", "workers", "logging interval"))]


class TheirData(DigitsDataModule):
    """Data of a user's own."""


@pytest.mark.filterwarnings("default")
def test_what_a_user_can_change_in_their_own_data_is_warned_of() -> None:
    theirs = f"--data={{class_path: {__name__}.TheirData, init_args: {{by: row, train_size: 100}}}}"
    with pytest.warns(UserWarning, match="smaller than the logging interval"):
        run_experiment(
            [*QUICK[:3], theirs, *QUICK[7:], "--test_after_fit", "null", "--trainer.log_every_n_steps", "50"]
        )


# Threads.


class NotRecurrent(LightningModule):
    """A user's own model with a size of the same name."""

    def __init__(self, hidden_size: int = 128) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Linear(hidden_size, hidden_size)


class NotYet(NotRecurrent):
    """It makes further layers when a fit starts, of whatever kind."""

    def configure_model(self) -> None:
        """Make them."""


MOSTLY_LINEAR = nn.Sequential(nn.Linear(100, 10), nn.LSTM(10, 4))


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (nn.Sequential(nn.LSTM(2, 8), nn.GRUCell(2, 16)), 16),
        (LanguageModelingTask(None, 6, 12, 2), 12),
        (NotRecurrent(), None),
        (nn.RNN(2, SMALL), SMALL),
    ],
    ids=["largest", "later", "none", "large"],
)
def test_small_recurrent_layers_have_one_thread(
    model: nn.Module, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert recurrent_size(model) == size
    told, small = one_thread_for(model), size is not None and size < SMALL
    assert chosen == [1] * small
    assert (told is not None and "instead of 4" in told and "OMP_NUM_THREADS" in told) == small
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert one_thread_for(model) is None


@pytest.mark.parametrize("model", [NotYet(), MOSTLY_LINEAR], ids=["not yet", "mostly linear"])
def test_models_that_other_layers_compute_keep_their_threads(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("threads were set"))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert recurrent_size(model) is not None
    assert one_thread_for(model) is None


def test_an_accelerator_needs_no_device_before_it_is_launched() -> None:
    """On a TPU the strategy refuses to name one."""
    not_launched: Any = SimpleNamespace(accelerator=XLAAccelerator)
    ExperimentCLI._choose_threads(run_experiment(QUICK[1:], run=False), not_launched)


def test_the_number_of_threads_is_that_of_before_when_the_command_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    chosen: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    run_experiment(QUICK[1:], run=False)
    assert chosen == [1, 2]


# Help.


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict", "sites"])
def test_help_is_short(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"], "lightning")
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert said.startswith(f"usage: lightning {name} --config NAME")
    assert len(said.splitlines()) < 30
    first = said.partition("Used first:")[2].partition("Everything else:")[0]
    assert len([line for line in first.splitlines() if line.startswith("  --")]) == 10
    assert all(len(line) <= 120 for line in said.splitlines())


def test_every_option_is_one_option_away(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--help_all"])
    assert stopped.value.code == 0
    assert "--trainer.gradient_clip_val" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--help",), ("fit", "--help"), ("report", "--help"), ("configs", "list")])
def test_help_imports_neither_torch_nor_lightning(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from lightning_advdrop.cli import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'matplotlib', 'wandb'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent, check=True, capture_output=True)

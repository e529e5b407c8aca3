"""Averaged SGD of language models: the trigger, resuming in the middle of an epoch, and fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop import NonMonotonicAveraging
from lightning_advdrop.cli import ExperimentCLI, run_experiment
from tests.helpers.language_models import write_experiment

pytestmark = pytest.mark.filterwarnings(
    "ignore:The `srun` command is available", "ignore:The dirpath has changed", "ignore:Checkpoint directory"
)

# A rate that is high enough that the loss does not fall in every epoch.
SETTINGS: dict[str, Any] = {"learning_rate": 60.0}
EVERY_STEP = (
    "--trainer.callbacks+={class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
    "{dirpath: steps, filename: '{step}', every_n_train_steps: 1, save_top_k: -1}}"
)
ADVERSARIAL = (
    "--regularizer={class_path: lightning_advdrop.AdversarialDropoutCallback, init_args: "
    "{sites: 'model.rnns.1:weight', rate: 0.3, start: ones, divergence: mse_logits, weight: 0.1}}"
)


def averaging(**arguments: Any) -> str:
    settings = ", ".join(f"{name}: {value}" for name, value in arguments.items())
    return f"--trainer.callbacks+={{class_path: lightning_advdrop.NonMonotonicAveraging, init_args: {{{settings}}}}}"


def fit(config: Path, *options: str, epochs: int = 6) -> ExperimentCLI:
    return run_experiment(["fit", "--config", str(config), "--trainer.max_epochs", str(epochs), *options])


def callback(command: ExperimentCLI) -> NonMonotonicAveraging:
    callbacks: list[Any] = vars(command.trainer)["callbacks"]
    (found,) = (each for each in callbacks if isinstance(each, NonMonotonicAveraging))
    return found


def weights(command: ExperimentCLI) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in command.model.state_dict().items()}


def test_resuming_in_the_middle_of_an_epoch_gives_the_bits_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """Before the trigger and after it, with dropout, a regularizer, random lengths and carried states."""
    config = write_experiment(tmp_path, **SETTINGS)
    options = (averaging(nonmono=1), ADVERSARIAL)
    whole = fit(config, *options, EVERY_STEP)
    averaged, total = callback(whole).steps, whole.trainer.global_step
    assert 0 < averaged < total
    wanted = weights(whole)
    for step in (total - averaged - 3, total - averaged + 2, total - 2):
        resumed = fit(
            config,
            *options,
            EVERY_STEP.replace("dirpath: steps", "dirpath: more"),
            "--ckpt_path",
            f"steps/step={step}.ckpt",
        )
        assert callback(resumed).steps == averaged
        assert all(torch.equal(value, wanted[name]) for name, value in weights(resumed).items())


def test_fine_tuning_starts_from_the_average_and_stops_by_itself(tmp_path: Path) -> None:
    config = write_experiment(tmp_path, **SETTINGS)
    first = fit(config, averaging(nonmono=1))
    saved: Any = first.trainer.checkpoint_callback
    average = torch.load(saved.best_model_path, weights_only=True)["state_dict"]
    options = (
        "--model.init_args.pretrained",
        saved.best_model_path,
        averaging(nonmono=1, from_start="true", stop="true"),
    )
    start = fit(config, *options, "--model.init_args.learning_rate", "1e-30", epochs=1)
    assert all(torch.equal(value, average[name]) for name, value in weights(start).items())
    tuned = fit(config, *options, epochs=60)
    assert tuned.trainer.current_epoch < 60
    assert callback(tuned).steps == tuned.trainer.global_step

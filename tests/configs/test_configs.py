"""Every configuration file: it parses, it makes its objects, and it trains a few steps on tiny data."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lightning_advdrop import MNISTDataModule
from lightning_advdrop.callbacks.training_step import attached_regularizers
from lightning_advdrop.cli import run_experiment
from tests.helpers.idx_files import mnist_arrays, write_mnist

CONFIGS = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.yaml"))
FEW_STEPS = (
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"),
    *("--trainer.max_epochs", "1", "--data.init_args.batch_size", "4", "--data.init_args.eval_batch_size", "4"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.log_every_n_steps", "1"),
)


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in MNIST's format where the data module looks for them."""
    monkeypatch.setattr(MNISTDataModule, "n_train", 30)
    monkeypatch.setattr(MNISTDataModule, "n_validation", 10)
    monkeypatch.setattr(MNISTDataModule, "n_test", 10)
    write_mnist(tmp_path, mnist_arrays(40, 10))
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", str(tmp_path))


def test_there_are_configs() -> None:
    names = {path.stem for path in CONFIGS}
    assert names >= {"quickstart", "smnist", "psmnist", "smnist_rows", "smnist_small", "psmnist_small"}


@pytest.mark.usefixtures("tiny_mnist")
@pytest.mark.parametrize("plain", [False, True], ids=["regularized", "plain"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_a_few_steps(path: Path, plain: bool) -> None:
    arguments = ["fit", "--config", str(path), *FEW_STEPS]
    if "train_size" in yaml.safe_load(path.read_text())["data"]["init_args"]:
        arguments += ["--data.init_args.train_size", "20"]
    command = run_experiment([*arguments, *(["--regularizer", "null"] if plain else [])])
    regularizers = attached_regularizers(command.model)
    assert len(regularizers) == (not plain)
    assert command.trainer.global_step == 2
    assert command.trainer.callback_metrics["test/loss"] > 0


@pytest.mark.parametrize("name", ["smnist", "psmnist"])
def test_the_published_settings(name: str) -> None:
    config = yaml.safe_load(next(path for path in CONFIGS if path.stem == name).read_text())
    assert config["trainer"]["max_epochs"] == 250
    assert config["model"]["init_args"] == {
        "input_size": 1,
        "hidden_size": 100,
        "learning_rate": 1e-3,
        "smoothing": 0.5,
        "clip_value": 1.0,
        "rampdown_epochs": 50,
    }
    assert config["data"]["init_args"].get("permuted", False) == (name == "psmnist")
    assert config["regularizer"]["init_args"] == {
        "sites": "recurrent",
        "rate": 0.03,
        "weight": 1.0,
        "rampup_epochs": 50,
        "divergence": "kl",
        "direction": "adv_base",
        "detach_base": False,
        "start": "one_drop",
        "keep_start": True,
    }

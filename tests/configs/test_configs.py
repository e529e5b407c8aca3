"""Every configuration file: it parses, it makes its objects, and it trains a few steps on tiny data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from lightning_advdrop.callbacks.training_step import attached_regularizers
from lightning_advdrop.cli import describe_experiment, run_experiment
from tests.helpers.tiny_data import TINY_DATA, TinyData

CONFIGS = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.yaml"))
FEW_STEPS = (
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"),
    *("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.log_every_n_steps", "1"),
    *("--trainer.check_val_every_n_epoch", "1"),
)


def tiny_data(config: Path) -> tuple[TinyData, list[str]]:
    """The tiny data for an experiment, and the options that make it run on them."""
    data = yaml.safe_load(config.read_text())["data"]
    tiny = TINY_DATA[data["class_path"].rpartition(".")[2]]
    return tiny, tiny.overrides(data.get("init_args", {}))


@pytest.fixture
def with_tiny_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in the real formats where the data modules look for them."""
    for tiny in TINY_DATA.values():
        tiny.write(tmp_path, monkeypatch)
    monkeypatch.setenv("LIGHTNING_ADVDROP_DATA", str(tmp_path))
    monkeypatch.setenv("LIGHTNING_ADVDROP_CACHE", str(tmp_path / "cache"))


def test_there_are_configs() -> None:
    names = {path.stem for path in CONFIGS}
    assert names >= {"quickstart", "smnist", "psmnist", "smnist_rows", "smnist_small", "psmnist_small"}
    assert names >= {f"{data}{kind}" for data in ("ptb", "wikitext2") for kind in ("", "_finetune", "_small")}


def earlier_run(config: Path) -> list[str]:
    """For a fine-tuning stage: makes the weights that it starts from, and names them."""
    if not config.stem.endswith("_finetune"):
        return []
    path = config.with_stem(config.stem.removesuffix("_finetune"))
    tiny, overrides = tiny_data(path)
    command = run_experiment(["fit", "--config", str(path), *FEW_STEPS, *overrides, *tiny.model_overrides])
    best = vars(command.trainer.checkpoint_callback)["best_model_path"]
    return ["--model.init_args.pretrained", best]


def has_regularizer(path: Path) -> bool:
    return bool(yaml.safe_load(path.read_text()).get("regularizer"))


# Also those that differ by their data set alone: what a model is told of its data is part of the run.
RUNS = [*((path, True) for path in CONFIGS if has_regularizer(path)), *((path, False) for path in CONFIGS)]


@pytest.mark.usefixtures("with_tiny_data")
@pytest.mark.parametrize(
    ("path", "regularized"),
    [pytest.param(*run, id=f"{run[0].stem}-{'regularized' if run[1] else 'plain'}") for run in RUNS],
)
def test_it_trains_a_few_steps(path: Path, regularized: bool) -> None:
    tiny, overrides = tiny_data(path)
    if yaml.safe_load(path.read_text())["model"].get("init_args", {}).get("hidden_size", 0) > 500:
        overrides += tiny.model_overrides
    arguments = ["fit", "--config", str(path), *FEW_STEPS, *overrides, *earlier_run(path)]
    command = run_experiment([*arguments, *([] if regularized else ["--regularizer", "null"])])
    assert bool(attached_regularizers(command.model)) == regularized
    assert command.trainer.global_step == 2
    assert command.trainer.callback_metrics["test/loss"] > 0


@pytest.mark.usefixtures("with_tiny_data")
@pytest.mark.parametrize("which", ["best", "last"])
def test_the_last_weights_are_kept_where_they_are_not_the_best(which: str) -> None:
    path = next(path for path in CONFIGS if path.stem == "ptb_small")
    tiny, overrides = tiny_data(path)
    overrides += [*tiny.model_overrides, "--regularizer", "null", "--model.init_args.learning_rate", "1e-30"]
    overrides += ["--trainer.max_epochs", "3", "--test_after_fit", which]
    command = run_experiment(["fit", "--config", str(path), *FEW_STEPS, *overrides])
    folder = Path(str(command.trainer.log_dir)) / "checkpoints"
    best, last = sorted(folder.iterdir())
    assert (best.name, last.name) == ("best.ckpt", "last.ckpt")
    steps = {path: torch.load(path, weights_only=True)["global_step"] for path in (best, last)}
    assert steps[best] < steps[last] == command.trainer.global_step == 6
    assert Path(str(command.trainer.ckpt_path)).stem == which


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_where_the_best_weights_are_kept_the_last_are_too(path: Path) -> None:
    kept = [
        each["init_args"]["filename"]
        for each in yaml.safe_load(path.read_text())["trainer"].get("callbacks", [])
        if each["class_path"].endswith("Checkpoint")
    ]
    assert kept == ["best", "last"] or "best" not in kept


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
        "search": "gradient",
        "share_masks": False,
        "keep_start": True,
    }


PUBLISHED_READER = {"embedding_size": 256, "hidden_size": 1024, "dropout": 0.5, "clip_norm": 1.0}


@pytest.mark.parametrize("name", ["imdb", "elec", "rcv1", "imdb_bidirectional"])
def test_the_published_settings_of_document_classifiers(name: str) -> None:
    config = yaml.safe_load(next(path for path in CONFIGS if path.stem == name).read_text())
    assert config["trainer"]["max_steps"] == 15000
    both = name == "imdb_bidirectional"
    pretrained = {"pretrained": f"runs/pretrained/{name.partition('_')[0]}.ckpt"}
    backward = {"bidirectional": True, "pretrained_backward": "runs/pretrained/imdb_backward.ckpt"}
    classifier = {"classifier_size": 30, "learning_rate": 5e-4, "decay": 0.9998}
    expected = PUBLISHED_READER | classifier | pretrained | (backward if both else {})
    assert config["model"]["init_args"] == expected
    assert config["data"]["init_args"] == {
        "max_tokens": 400,
        "batch_size": 64,
        "unlabelled_batch_size": 64,
        "eval_batch_size": 256,
    }
    assert config["regularizer"]["init_args"] == {
        "sites": "recurrent",
        "rate": 0.0385,
        "weight": 1.0,
        "steps": 1,
        "divergence": "kl",
        "direction": "base_adv",
        "start": "ones",
        "search": "gradient",
        "flips": "drop",
        "detach_base": True,
        "share_masks": False,
    }
    averaging = config["trainer"]["callbacks"][0]
    assert averaging["class_path"] == "lightning_advdrop.ExponentialAveraging"
    assert averaging["init_args"] == {"decay": 0.999, "use_buffers": False, "warmup": True}


@pytest.mark.parametrize("name", ["imdb", "elec", "rcv1", "imdb_backward"])
def test_the_published_settings_of_their_pre_training(name: str) -> None:
    stem = "imdb_pretrain_backward" if name == "imdb_backward" else f"{name}_pretrain"
    config = yaml.safe_load(next(path for path in CONFIGS if path.stem == stem).read_text())
    assert config["trainer"]["max_steps"] == 100_000
    settings = {"cutoffs": [2000, 20000], "learning_rate": 1e-3, "decay": 0.9999}
    assert config["model"]["init_args"] == PUBLISHED_READER | settings
    assert config["data"]["init_args"]["batch_size"] == 256
    assert config["data"]["init_args"].get("reverse", False) == (name == "imdb_backward")
    checkpoint = config["trainer"]["callbacks"][0]["init_args"]
    assert f"{checkpoint['dirpath']}/{checkpoint['filename']}.ckpt" == f"runs/pretrained/{name}.ckpt"


@pytest.mark.usefixtures("with_tiny_data")
def test_sites_are_shown_of_a_network_that_is_made_for_its_data() -> None:
    path = next(path for path in CONFIGS if path.stem == "imdb_bidirectional")
    _, overrides = tiny_data(path)
    table = describe_experiment(["--config", str(path), *overrides])
    assert "| model.encoder.lstm.l0:recurrent          | MaskedLSTM | (B, 16) | the callback |" in table
    assert "| model.backward_encoder.lstm.l0:recurrent | MaskedLSTM | (B, 16) | the callback |" in table


@pytest.mark.usefixtures("with_tiny_data")
def test_a_classifier_starts_from_the_language_model_that_its_configuration_names() -> None:
    """The commands of the documentation, one after the other."""
    for name in ("imdb_small_pretrain", "imdb_small"):
        path = next(path for path in CONFIGS if path.stem == name)
        _, overrides = tiny_data(path)
        if "--model.init_args.pretrained" in overrides:
            overrides = overrides[: overrides.index("--model.init_args.pretrained")]
        command = run_experiment(["fit", "--config", str(path), *FEW_STEPS, *overrides])
    assert Path("runs/pretrained/imdb_small.ckpt").is_file()
    assert command.model.pretrained["pretrained"] == "runs/pretrained/imdb_small.ckpt"


@pytest.mark.parametrize("name", ["ptb", "wikitext2"])
def test_the_published_settings_of_language_modelling(name: str) -> None:
    config, fine = (
        yaml.safe_load((CONFIGS[0].parent / f"{name}{kind}.yaml").read_text()) for kind in ("", "_finetune")
    )
    # WikiText-2 has the dropout of the AWD-LSTM repository.
    before, between = (0.65, 0.2) if name == "wikitext2" else (0.4, 0.3)
    assert config["model"]["init_args"] == {
        "embedding_size": 400,
        "hidden_size": 1150,
        "num_layers": 3,
        "word_dropout": 0.1,
        "input_dropout": before,
        "hidden_dropout": between,
        "output_dropout": 0.4,
        "weight_dropout": 0.5,
        "learning_rate": 30.0,
        "reference_length": 70,
        "weight_decay": 1.2e-6,
        "clip_norm": 0.25,
    }
    assert config["data"]["init_args"] == {"batch_size": 20, "length": 70}
    assert config["regularizer"]["init_args"] == {
        "sites": "model.rnns.2:weight",
        "rate": 0.06,
        "weight": 0.1,
        "steps": 1,
        "rampup_epochs": 100,
        "divergence": "mse_logits",
        "detach_base": True,
        "start": "ones",
        "search": "gradient",
        "share_masks": False,
        "reference_in_base": True,
    }
    assert config["trainer"]["max_epochs"] == 750
    assert config["trainer"]["callbacks"][0]["init_args"] == {"nonmono": 60}
    assert fine["model"]["init_args"].pop("pretrained") == f"runs/{name}/version_0/checkpoints/best.ckpt"
    config["model"]["init_args"] |= {"alpha": 2.0, "beta": 1.0}
    config["data"]["init_args"] |= {"max_length": 80}
    assert (fine["model"], fine["data"], fine["regularizer"]) == (config["model"], config["data"], None)
    assert (fine["trainer"]["max_epochs"], fine["trainer"]["num_sanity_val_steps"]) == (500, -1)
    averaging, best, _ = fine["trainer"]["callbacks"]
    assert averaging["init_args"] == {"nonmono": 5, "from_start": True, "stop": True}
    assert best["class_path"] == "lightning_advdrop.BestOrStartCheckpoint"
    assert (best["init_args"]["monitor"], best["init_args"]["mode"]) == ("val/loss", "min")

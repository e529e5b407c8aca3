"""Small texts, and language models trained on them through the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lightning_advdrop.cli import run_experiment
from tests.helpers.corpora import texts


def write_experiment(folder: Path, **model: Any) -> Path:
    """Three small text files, and the configuration of an experiment with them."""
    paths = {split: folder / f"{split}.txt" for split in ("train", "validation", "test")}
    for split, text in texts().items():
        paths[split].write_text(text, encoding="utf-8")
    data = {**{split: str(path) for split, path in paths.items()}, "batch_size": 4, "length": 10, "cache": str(folder)}
    sizes = {"embedding_size": 6, "hidden_size": 8, "num_layers": 2, "learning_rate": 5.0}
    saving = {"monitor": "val/loss", "save_last": True, "filename": "best", "dirpath": str(folder / "checkpoints")}
    config = {
        "seed_everything": 0,
        "model": {"class_path": "lightning_advdrop.LanguageModelingTask", "init_args": {**sizes, **model}},
        "data": {"class_path": "lightning_advdrop.TextFileDataModule", "init_args": data},
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(folder),
            "callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": saving}],
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def trained(folder: Path, **model: Any) -> tuple[Path, Path]:
    """An experiment's configuration, and a checkpoint of it."""
    config = write_experiment(folder, **model)
    run_experiment(["fit", "--config", str(config)])
    return config, folder / "checkpoints" / "best.ckpt"

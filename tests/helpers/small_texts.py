"""A text with a rule, and small language models that are trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from lightning_advdrop import AdversarialDropoutCallback, LanguageModelingTask, TextFileDataModule
from tests.helpers.plain_models import quiet_trainer

WORDS = 12


def write_text(path: Path, words: int, seed: int, of: int = WORDS) -> Path:
    """A text in which most words tell the next one."""
    rng = np.random.default_rng(seed)
    numbers = [0]
    while len(numbers) < words:
        numbers.append((3 * numbers[-1] + 1) % of if rng.random() < 0.85 else int(rng.integers(of)))
    lines = (" ".join(f"w{number}" for number in numbers[start : start + 20]) for start in range(0, words, 20))
    path.write_text("\n".join(lines))
    return path


def small_data(folder: Path, of: int = WORDS, **arguments: Any) -> TextFileDataModule:
    """A data module of such texts; ``of`` tells how many words there are."""
    sizes = {"train": 1600, "validation": 400, "test": 300}
    paths = {name: write_text(folder / f"{of}-{name}.txt", size, size, of) for name, size in sizes.items()}
    defaults: dict[str, Any] = {"batch_size": 4, "eval_batch_size": 3, "length": 12, "cache": folder / "cache"}
    return TextFileDataModule(**(paths | defaults | arguments))


def small_task(**arguments: Any) -> LanguageModelingTask:
    """A task with all kinds of dropout."""
    rates = {"word": 0.05, "input": 0.1, "hidden": 0.1, "output": 0.1, "weight": 0.2}
    defaults: dict[str, Any] = {f"{name}_dropout": rate for name, rate in rates.items()}
    defaults |= {"embedding_size": 10, "hidden_size": 14, "num_layers": 2, "learning_rate": 5.0, "reference_length": 12}
    return LanguageModelingTask(**(defaults | arguments))


def small_trainer(**arguments: Any) -> L.Trainer:
    """A quiet trainer of two epochs, after seeding everything."""
    L.seed_everything(0, verbose=False)
    return quiet_trainer(**arguments)


def regularizer(**arguments: Any) -> AdversarialDropoutCallback:
    """Adversarial dropout of the weights of the second layer, by the published search: the base pass is unmasked."""
    settings: dict[str, Any] = {"sites": "model.rnns.1:weight", "rate": 0.2, "weight": 0.1, "rampup_epochs": 0}
    settings |= {"divergence": "mse_logits", "search": "gradient", "start": "ones", "share_masks": False}
    return AdversarialDropoutCallback(**(settings | arguments))

"""Train a model of the zoo, and describe everything that comes of it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from tests.masking.zoo.registry import Entry
from tests.masking.zoo.snapshot import generators, snapshot


def fit(entry: Entry, *callbacks: L.Callback) -> dict[str, dict[str, str]]:
    """Train a model for two epochs, from the same seed, then validate it; describe what came of it, part by part."""
    L.seed_everything(11, verbose=False)
    module = entry.make()
    logger = _Logger()
    trainer = _trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 2,
            "logger": logger,
            "log_every_n_steps": 1,
            "callbacks": [*callbacks, _Filled(), _Short()],
            "check_val_every_n_epoch": 2,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **entry.trainer,
        }
    )
    L.seed_everything(3, verbose=False)
    try:
        trainer.fit(module)
    except Exception as error:
        error.steps = trainer.global_step  # type: ignore[attr-defined]
        raise
    return {
        "module": snapshot(module),
        "optimizer": snapshot([optimizer.state_dict() for optimizer in trainer.optimizers]),
        "generators": generators(),
        "metrics": logger.found | {n: repr(v.item()) for n, v in trainer.callback_metrics.items()},
    }


def _trainer(**arguments: Any) -> L.Trainer:
    with patch("lightning.fabric.utilities.registry.entry_points", _entry_points):
        return L.Trainer(**arguments)


# Every trainer reads them from the folders of all packages.
_entry_points = lru_cache(importlib.metadata.entry_points)


class _Short(L.Callback):
    """Ends the second epoch after its first batch; steps are most of the time."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        trainer.should_stop = trainer.current_epoch > 0


class _Filled(L.Callback):
    """Gives parameters a gradient of zero where they have none.

    A pass with other noise may use parameters that the step itself does not use, as under stochastic depth. Momentum
    goes on for a gradient of zero, and stands still without one.
    """

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class _Logger(DummyLogger):
    """Keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.found |= {f"{name} at {step}": repr(value) for name, value in metrics.items() if name != "epoch"}

    def __getattr__(self, _: str) -> Callable[..., Any]:
        raise AttributeError(_)

"""Two processes learn what one process learns that is given both halves of each batch, with every method.

The one process accumulates the gradients of two halves, and each method draws for a half what the process of that half
draws. All methods are attached at once; each is compared by what it logs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightning_advdrop import LanguageModelingTask, RegularizerCallback, SequentialMNISTTask, TextClassificationTask
from tests.helpers.distributed import GlooStrategy
from tests.helpers.family import CALLBACKS
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.resuming import TASKS, TEXT, prepare, regularizer

pytestmark = pytest.mark.filterwarnings("ignore:.*barrier.*:UserWarning")


class Stateless(LanguageModelingTask):
    """Begins every batch from zeros, since halves that take turns do not go on from each other."""

    def keep_states(self, stage: str, states: Any) -> None:
        pass


NO_DROPOUT: dict[str, Any] = dict.fromkeys(
    ["word_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_dropout"], 0.0
)
MODELS: dict[str, Any] = {
    "images": lambda: SequentialMNISTTask(8, 8, rampdown_epochs=0, learning_rate=0.5),
    "documents": lambda: TextClassificationTask(**(TEXT | {"dropout": 0.0}), classifier_size=6),
    "language": lambda: Stateless(None, 6, 8, 2, learning_rate=1.0, reference_length=12, **NO_DROPOUT),
}


def share(data: Any, rank: int) -> list[Any]:
    """The first batches of one of two processes."""
    trainer, data.trainer = (
        data.trainer,
        SimpleNamespace(
            global_rank=rank,
            world_size=2,
            max_epochs=1,
            fit_loop=SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))),
        ),
    )
    batches = list(type(data).train_dataloader(data))
    data.trainer = trainer
    return [batch[0] if isinstance(batch[0], dict) else batch for batch in batches][:3]


def own_batches(data: Any) -> DataLoader[Any]:
    """Those of this process; where there is one, the halves of both in turn."""
    shares: list[Any] = [share(data, rank) for rank in (0, 1)]
    world, rank = data.trainer.world_size, data.trainer.global_rank
    batches = shares[rank] if world == 2 else [half for halves in zip(*shares, strict=True) for half in halves]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


class TakesTurns(L.Callback):
    """Gives the methods the generator of the process whose half is next."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        callbacks: list[Any] = vars(trainer)["callbacks"]
        for each in callbacks:
            if trainer.world_size == 1 and isinstance(each, RegularizerCallback):
                if batch_idx == 0:
                    seeds = (torch.initial_seed(), torch.initial_seed() + 1)
                    vars(each)["of_process"] = [torch.Generator().manual_seed(seed) for seed in seeds]
                each._generator = vars(each)["of_process"][batch_idx % 2]


def fit(root: Path, task: str, *, processes: int, plain: bool = False) -> tuple[dict[str, Any], dict[str, float]]:
    """The weights, and what is logged, with every method or none."""
    L.seed_everything(5, verbose=False)
    methods = [regularizer(task, method) for method in CALLBACKS.values() if not plain]
    for method in methods:
        method.weight, method.rampup_epochs = 0.1, 0
        if method.site_specs == "model.rnns.1:weight":  # one mask for the batch of a process
            method.site_specs = "model.rnns.1:recurrent"
    folder = root / ("plain" if plain else f"{processes}")
    two: dict[str, Any] = {"strategy": GlooStrategy(), "devices": 2} if processes == 2 else {}
    trainer = quiet_trainer(
        callbacks=[*methods, TakesTurns(), ModelCheckpoint(folder, "last")],
        enable_checkpointing=True,
        max_epochs=1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        accumulate_grad_batches=2 // processes,
        **two,
    )
    model, data = MODELS[task](), TASKS[task].data(root)
    vars(data)["train_dataloader"] = functools.partial(own_batches, data)
    trainer.fit(model, data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.endswith("_step")}
    # A network that is made for its data is in the processes only.
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"], metrics


@pytest.mark.parametrize("task", MODELS)
def test_two_processes_learn_what_one_learns_with_every_method(task: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    weights, metrics = fit(tmp_path, task, processes=1)
    together, logged = fit(tmp_path, task, processes=2)
    assert metrics.keys() == logged.keys()
    divergences = [name for name in metrics if name.endswith("/divergence")]
    assert len(divergences) == len(CALLBACKS)
    for name, value in metrics.items():
        assert logged[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    for name, value in weights.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-5, msg=name)
    # The methods make a difference that these tolerances see.
    without, _ = fit(tmp_path, task, processes=1, plain=True)
    changed = [name for name, value in weights.items() if not torch.allclose(without[name], value, 1e-2, 1e-3)]
    assert changed

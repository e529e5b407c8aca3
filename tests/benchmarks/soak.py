"""Train a tiny model for very many steps, and look for what grows: memory, objects, graphs, hooks, files, threads.

Adversarial dropout, `InferenceGapMonitor` and `MaskStatistics` are attached, a logger writes, and a checkpoint is saved
every epoch. The first tenth of the run warms up. Run with ``python -m tests.benchmarks.soak``; ``--steps 20000`` is the
default, and takes minutes. The exit code is 1 if something has grown by more than 2 percent.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, MaskStatistics
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer, seeded

STEPS_AN_EPOCH = 500
ALLOWED = 0.02


class Soaked(PlainModel):
    """A tiny LSTM classifier that is validated, too."""

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Repeated(torch.utils.data.Dataset[Any]):
    """The same few batches again and again, ``steps`` of them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.batches = list(loader(batch_size=8, examples=32))

    def __getitem__(self, step: int) -> Any:
        return self.batches[step % len(self.batches)]

    def __len__(self) -> int:
        return self.steps


def resident() -> int:
    """Memory of this process that is in use, in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def hooks_of(trainer: L.Trainer) -> int:
    """How many hooks hang on the module and its parts, the optimizers and the parameters."""
    parts: list[Any] = [
        *trainer.lightning_module.modules(),
        *trainer.optimizers,
        *trainer.lightning_module.parameters(),
    ]
    named = (value for part in parts for name, value in vars(part).items() if "hook" in name)
    return sum(len(value) for value in named if hasattr(value, "__len__"))


def registered_of(trainer: L.Trainer) -> int:
    """How many listeners, callbacks, loggers, attributes of modules and entries of checkpoints' states there are."""
    callbacks: list[Any] = vars(trainer)["callbacks"]
    listeners = sum(len(each.listeners) for each in callbacks if hasattr(each, "listeners"))
    attributes = sum(len(vars(part)) for part in trainer.lightning_module.modules())
    states = sum(len(each.state_dict()) for each in callbacks)
    return listeners + len(callbacks) + len(trainer.loggers) + attributes + states


def graphs() -> int:
    """How many tensors with a graph are alive."""
    # By the type: some objects warn when they are asked for their class.
    return sum(issubclass(type(each), Tensor) and each.grad_fn is not None for each in gc.get_objects())


#: What is measured at the end of each epoch, and how much of it may be added.
MEASURES: dict[str, tuple[Callable[[L.Trainer], int], float]] = {
    "resident bytes": (lambda _: resident(), ALLOWED),
    "allocated blocks": (lambda _: sys.getallocatedblocks(), ALLOWED),
    "Python objects": (lambda _: len(gc.get_objects()), ALLOWED),
    "tensors with a graph": (lambda _: graphs(), 0.0),
    "hooks": (hooks_of, 0.0),
    "registered": (registered_of, 0.0),
    "open files": (lambda _: len([*Path("/proc/self/fd").iterdir()]), 0.0),
    "threads": (lambda _: threading.active_count(), 0.0),
}


class Probe(L.Callback):
    """Measures everything at the beginning of each epoch but the first."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {name: [] for name in MEASURES}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch:
            gc.collect()
            for name, (measure, _) in MEASURES.items():
                self.seen[name].append(measure(trainer))


def soak(folder: Path, steps: int, steps_an_epoch: int = STEPS_AN_EPOCH) -> Probe:
    """Train; return what was measured."""
    probe, epochs = Probe(), max(3, steps // steps_an_epoch + 1)
    callbacks = [
        AdversarialDropoutCallback(rate=0.2),
        InferenceGapMonitor(rate=0.2, samples=2),
        MaskStatistics(plot_every_n_epochs=0),
        ModelCheckpoint(folder / "checkpoints", "last", enable_version_counter=False),
        probe,
    ]
    trainer = quiet_trainer(
        max_epochs=epochs,
        callbacks=callbacks,
        logger=CSVLogger(folder),
        enable_checkpointing=True,
        log_every_n_steps=4,
    )
    training = torch.utils.data.DataLoader(Repeated(steps_an_epoch), batch_size=None)
    trainer.fit(seeded(Soaked), training, loader(batch_size=8, examples=16))
    return probe


def growth(values: list[int]) -> float:
    """The share that was added after the warm-up, the first tenth: the largest of the last tenth beside that before."""
    tenth = max(1, len(values) // 10)
    before, after = max(values[: tenth + 1]), max(values[-tenth:])
    return (after - before) / max(1, before)


def table(probe: Probe) -> tuple[str, bool]:
    """A row for each measure, and whether nothing has grown by more than is allowed."""
    lines = [
        "| measure | after warm-up | middle | end | growth | allowed |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    fine = True
    for name, values in probe.seen.items():
        allowed, added = MEASURES[name][1], growth(values)
        fine &= added <= allowed
        tenth = max(1, len(values) // 10)
        places = " | ".join(f"{values[place]:,}" for place in (tenth, len(values) // 2, -1))
        lines.append(f"| {name} | {places} | {added:+.2%} | {allowed:.0%} |")
    return "\n".join(lines), fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        text, fine = table(soak(Path(folder), arguments.steps))
    print(f"torch {torch.__version__}, {arguments.steps} steps, {STEPS_AN_EPOCH} an epoch\n{text}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

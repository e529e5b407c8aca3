"""Small runs of each task with each method, which a process of its own resumes."""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_advdrop import (
    AdversarialTrainingCallback,
    DigitsDataModule,
    ExponentialAveraging,
    FraternalDropoutCallback,
    GlobalRandomState,
    LanguageModelingTask,
    RDropCallback,
    RegularizerCallback,
    RunningMetrics,
    SequentialMNISTTask,
    TextClassificationTask,
    TextPretrainingTask,
)
from tests.helpers.document_files import Sizes, SmallIMDB, make_texts, write_imdb
from tests.helpers.family import CALLBACKS
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.releases import SAFE
from tests.helpers.small_texts import small_data

STEPS_AN_EPOCH, EPOCHS = 4, 2
PLACES = {"inside an epoch": f"step={STEPS_AN_EPOCH + 2}", "at its end": "epoch=0"}
TEXT: dict[str, Any] = {"embedding_size": 6, "hidden_size": 8, "dropout": 0.3, "learning_rate": 1e-2}


def documents(root: Path, task: Any, **sizes: Any) -> SmallIMDB:
    return SmallIMDB(root, task=task, train_size=16, cache=root / "cache", eval_batch_size=4, **sizes)


class Task(NamedTuple):
    """What makes a task and its data, and the sites of masks and of perturbations."""

    make: Callable[[], L.LightningModule]
    data: Callable[[Path], L.LightningDataModule]
    masked: str
    perturbed: str


TASKS = {
    "images": Task(
        lambda: SequentialMNISTTask(8, 8, rampdown_epochs=1, learning_rate=1e-2),
        lambda _: DigitsDataModule(by="row", train_size=16, batch_size=4),
        "recurrent",
        "input",
    ),
    "documents": Task(
        lambda: TextClassificationTask(**TEXT, classifier_size=6),
        lambda root: documents(root, "classify", batch_size=4, max_tokens=8),
        "recurrent",
        "embedding",
    ),
    "pre-training": Task(
        lambda: TextPretrainingTask(**TEXT, cutoffs=[6]),
        lambda root: documents(root, "pretrain", batch_size=12, max_tokens=7),
        "recurrent",
        "embedding",
    ),
    "language": Task(
        lambda: LanguageModelingTask(None, 6, 8, 2, learning_rate=5.0, reference_length=12, rate_decay=0.5),
        lambda root: small_data(root, batch_size=10, length=40, random_lengths=False),
        "model.rnns.1:weight",
        "embedding",
    ),
}
# Pre-training compares features, which no label belongs to.
NO_LABELS = (AdversarialTrainingCallback, FraternalDropoutCallback, RDropCallback)
CASES = [
    (task, method)
    for task, method in itertools.product(TASKS, [None, *CALLBACKS.values()])
    if task != "pre-training" or method not in NO_LABELS
]


def name_of(task: str, method: type[RegularizerCallback] | None) -> str:
    return f"{task} {'plain' if method is None else method.__name__}"


def regularizer(task: str, method: type[RegularizerCallback]) -> RegularizerCallback:
    """The method, strong, with a weight that grows."""
    arguments = inspect.signature(method).parameters
    perturbs = "epsilon" in arguments
    given: dict[str, Any] = {"epsilon": 0.5} if perturbs else {"rate": 0.3}
    if task == "pre-training" and "divergence" in arguments:
        given["divergence"] = "mse_logits"
    return method(sites=TASKS[task].perturbed if perturbs else TASKS[task].masked, weight=0.5, rampup_epochs=2, **given)


def prepare(root: Path) -> None:
    """Write the documents."""
    write_imdb(root, make_texts(Sizes(train=24, test=4, unlabelled=16), longest=20))


def saving(folder: Path) -> Iterator[L.Callback]:
    """A checkpoint within the second epoch, and one at the end of each."""
    yield ModelCheckpoint(folder, "{step}", every_n_train_steps=STEPS_AN_EPOCH + 2, save_top_k=-1)
    yield ModelCheckpoint(folder, "{epoch}", save_top_k=-1)


def fit(
    root: Path,
    task: str,
    method: type[RegularizerCallback] | None,
    *callbacks: L.Callback,
    ckpt_path: Path | None = None,
    **trainer: Any,
) -> dict[str, Any]:
    """Train; return the weights, what the optimizer remembers, and all that was logged."""
    L.seed_everything(7, verbose=False)
    methods = [] if method is None else [regularizer(task, method)]
    settings = {"max_epochs": EPOCHS, "limit_train_batches": STEPS_AN_EPOCH, "limit_val_batches": 1} | trainer
    made = quiet_trainer(
        callbacks=[*methods, *callbacks], enable_checkpointing=True, num_sanity_val_steps=0, **settings
    )
    model = TASKS[task].make()
    made.fit(model, TASKS[task].data(root), ckpt_path=ckpt_path, **SAFE)
    optimizer = made.optimizers[0].state_dict()
    state = {f"{group}/{name}": value for group, values in optimizer["state"].items() for name, value in values.items()}
    return {
        "weights": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "optimizer": state | {"groups": optimizer["param_groups"]},
        "metrics": {name: float(value) for name, value in made.callback_metrics.items()},
    }


def care() -> list[L.Callback]:
    """What makes a run resumable to the bit, as the commands add it."""
    return [GlobalRandomState(), RunningMetrics(), ExponentialAveraging(decay=0.9, use_buffers=False)]


def difference(first: Any, second: Any) -> list[str]:
    """The names, by their paths, of what is not the same to the bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        names = sorted({*first, *second}, key=str)
        return [f"{n}.{m}" for n in names for m in difference(first.get(n), second.get(n))]
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return [] if torch.equal(first, second) else [""]
    return [] if first == second else [""]


def main(root: Path) -> None:
    """Resume every case from each of its places, and keep the results."""
    results = {
        (task, None if method is None else method.__name__, place): fit(
            root,
            task,
            method,
            *care(),
            ModelCheckpoint(root / "again"),
            ckpt_path=root / name_of(task, method) / f"{file}.ckpt",
        )
        for task, method in CASES
        for place, file in PLACES.items()
    }
    torch.save(results, root / "resumed.pt")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

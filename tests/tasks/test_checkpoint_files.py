"""Files of checkpoints: they load with weights only and without the data, and damage to them is noticed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import lightning_advdrop
from lightning_advdrop import LanguageModelingTask, SequentialMNISTTask, TextClassificationTask, TextPretrainingTask
from lightning_advdrop.callbacks import (
    AdversarialTrainingCallback,
    ExponentialAveraging,
    GlobalRandomState,
    InferenceGapMonitor,
    RandomPerturbationCallback,
    TerminateOnNaN,
    VirtualAdversarialCallback,
)
from lightning_advdrop.datamodules import DigitsDataModule
from lightning_advdrop.tasks import BaseTask
from tests.helpers.damage import flip_a_weight, flipped
from tests.helpers.documents import Documents
from tests.helpers.family import CALLBACKS
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.releases import SAFE
from tests.helpers.small_texts import small_data, small_task
from tests.helpers.text_tasks import small_classifier, small_pretraining

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")
ROOT = Path(lightning_advdrop.__file__).parents[1]
Task = type[BaseTask]
PERTURBING = (AdversarialTrainingCallback, RandomPerturbationCallback, VirtualAdversarialCallback)
# What a loaded task predicts of.
PREDICT: dict[Task, str] = {
    SequentialMNISTTask: "task(torch.linspace(0, 1, 128).view(2, 64, 1))",
    TextClassificationTask: "task.classify(['n1 c00', 'c01 n2 n3'])",
    LanguageModelingTask: "task(torch.arange(10).view(5, 2)).logits",
    TextPretrainingTask: "task.model.loss(task.model(torch.arange(10).view(2, 5))[0], torch.arange(10).view(2, 5))",
}


def _made(kind: Task, folder: Path) -> tuple[BaseTask, L.LightningDataModule]:
    if kind is SequentialMNISTTask:
        return SequentialMNISTTask(hidden_size=5, rampdown_epochs=0), DigitsDataModule(train_size=60, batch_size=30)
    if kind is LanguageModelingTask:
        return small_task(), small_data(folder)
    if kind is TextClassificationTask:
        return small_classifier(), Documents()
    return small_pretraining(), Documents(task="pretrain")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, tuple[BaseTask, Path]]:
    """A trained task of each kind and its checkpoint."""
    found: dict[Task, tuple[BaseTask, Path]] = {}
    for kind in PREDICT:
        folder = tmp_path_factory.mktemp(kind.__name__)
        task, data = _made(kind, folder)
        trainer = quiet_trainer(max_steps=2, max_epochs=-1, limit_val_batches=0)
        trainer.fit(task, data)
        trainer.save_checkpoint(folder / "last.ckpt")
        found[kind] = task.eval(), folder / "last.ckpt"
    return found


each = pytest.mark.parametrize("kind", PREDICT, ids=lambda kind: kind.__name__)


@each
def test_a_process_that_never_saw_the_data_predicts_the_same(
    kind: Task, checkpoints: dict[Task, tuple[BaseTask, Path]], tmp_path: Path
) -> None:
    task, path = checkpoints[kind]
    code = (
        f"import sys, torch; from lightning_advdrop import {kind.__name__}\n"
        f"task = {kind.__name__}.load_from_checkpoint(sys.argv[1], **{SAFE!r}).eval()\n"
        f"torch.save({PREDICT[kind]}, 'predictions.pt')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LIGHTNING_ADVDROP_DATA": str(tmp_path / "none")}
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=tmp_path, check=True, env=environment)
    found = torch.load(tmp_path / "predictions.pt", weights_only=False)
    expected = eval(PREDICT[kind], {"task": task, "torch": torch})
    assert torch.equal(found, expected) if isinstance(expected, torch.Tensor) else found == expected


@pytest.mark.parametrize("callback", CALLBACKS.values(), ids=lambda callback: callback.__name__)
def test_states_of_callbacks_are_plain(callback: type[L.Callback], tmp_path: Path) -> None:
    task, data = _made(TextClassificationTask, tmp_path)
    method: Any = callback
    made = method(sites="embedding" if issubclass(callback, PERTURBING) else "recurrent")
    others = [ExponentialAveraging(), GlobalRandomState(), TerminateOnNaN(), InferenceGapMonitor(sites="recurrent")]
    trainer = quiet_trainer(max_epochs=1, callbacks=[made, *others], default_root_dir=tmp_path)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert len(torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]) >= 3


def test_settings_are_plain(tmp_path: Path) -> None:
    """Paths and numbers of NumPy are those of Python in a checkpoint."""
    task = SequentialMNISTTask(hidden_size=5, learning_rate=np.float64(0.5), rampdown_epochs=0)
    task.hparams.update(hidden_size=np.int64(5), pretrained=tmp_path / "a.ckpt")
    trainer = quiet_trainer()
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    settings = torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert (settings["hidden_size"], settings["learning_rate"]) == (5, 0.5)
    assert settings["pretrained"] == str(tmp_path / "a.ckpt")
    assert SequentialMNISTTask.load_from_checkpoint(tmp_path / "last.ckpt", **SAFE).learning_rate == 0.5


def _rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return spoil


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", "no pickle")


SPOILED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1000]), ("read", "truncated")),
    "empty": (lambda path: path.write_bytes(b""), ("read", "truncated")),
    "text": (lambda path: path.write_text("weights\n" * 100), ("read",)),
    "another zip": (_zip, ("read",)),
    "flipped": (flip_a_weight, ("damaged", "checksum")),
    "a tensor": (lambda path: torch.save(torch.ones(2), path), ("another kind",)),
    "weights only": (lambda path: torch.save({"weight": torch.ones(2)}, path), ("another kind",)),
    "no weights": (_rewritten(lambda content: content.pop("state_dict")), ("another kind",)),
    "no settings": (_rewritten(lambda content: content.update(hyper_parameters=None)), ("another kind",)),
    "missing": (Path.unlink, ("no such file",)),
}


@each
@pytest.mark.parametrize(("spoil", "parts"), SPOILED.values(), ids=list(SPOILED))
def test_damaged_and_foreign_files(
    kind: Task,
    spoil: Callable[[Path], object],
    parts: tuple[str, ...],
    checkpoints: dict[Task, tuple[BaseTask, Path]],
    tmp_path: Path,
) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(checkpoints[kind][1].read_bytes())
    spoil(path)
    with refused(f"checkpoint_path='{path}'", *parts) as caught:
        kind.load_from_checkpoint(path, **SAFE)
    assert len(str(caught.value).splitlines()) == 1


@each
def test_checkpoints_of_other_tasks(kind: Task, checkpoints: dict[Task, tuple[BaseTask, Path]]) -> None:
    for other, (_, path) in checkpoints.items():
        if other is not kind:
            with refused(f"checkpoint_path='{path}'", kind.__name__, "another kind"):
                kind.load_from_checkpoint(path, **SAFE)


def test_flips_anywhere_are_noticed_or_harmless(checkpoints: dict[Task, tuple[BaseTask, Path]], tmp_path: Path) -> None:
    task, path = checkpoints[SequentialMNISTTask]
    content, weights, rng = path.read_bytes(), task.state_dict(), random.Random(0)
    said: list[str] = []
    for _ in range(60):
        (tmp_path / "last.ckpt").write_bytes(flipped(content, rng.random()))
        try:
            loaded = SequentialMNISTTask.load_from_checkpoint(tmp_path / "last.ckpt", **SAFE)
        except ValueError as error:
            said.append(str(error))
        else:
            assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    assert all("checkpoint_path" in each for each in said)
    assert len(said) > 40


@pytest.mark.parametrize("setting", ["smoothing", "rampdown_epochs", "learning_rate"])
def test_a_setting_that_an_older_release_did_not_have(
    setting: str, checkpoints: dict[Task, tuple[BaseTask, Path]], tmp_path: Path
) -> None:
    """It gets its default."""
    content = torch.load(checkpoints[SequentialMNISTTask][1], weights_only=True)
    del content["hyper_parameters"][setting]
    torch.save(content, tmp_path / "older.ckpt")
    loaded = SequentialMNISTTask.load_from_checkpoint(tmp_path / "older.ckpt", **SAFE)
    assert getattr(loaded, setting) == getattr(SequentialMNISTTask(), setting)


def test_other_settings(checkpoints: dict[Task, tuple[BaseTask, Path]]) -> None:
    _, path = checkpoints[SequentialMNISTTask]
    with refused("ckpt_path", "same settings", "model.head.weight", (10, 7), (10, 5)):
        SequentialMNISTTask.load_from_checkpoint(path, **SAFE, hidden_size=7)
    with refused("ckpt_path", "same settings", "model.head.weight", (10, 7), (10, 5)):
        data = DigitsDataModule(train_size=60)
        quiet_trainer().test(SequentialMNISTTask(hidden_size=7), data, ckpt_path=path, **SAFE)

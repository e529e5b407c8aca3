"""Tasks refuse the batches of data for other tasks before they read any."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_advdrop import (
    ElecDataModule,
    LanguageModelingTask,
    SequentialMNISTTask,
    TextClassificationTask,
    TextPretrainingTask,
)
from lightning_advdrop.datamodules.labelled_documents import Task
from lightning_advdrop.tasks import BaseTask
from tests.helpers.document_files import as_documents, make_texts, write_elec
from tests.helpers.messages import refused
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.text_tasks import small_classifier, small_pretraining

KINDS = {
    SequentialMNISTTask: ("images", "MNISTDataModule"),
    LanguageModelingTask: ("running text", "TextFileDataModule"),
    TextClassificationTask: ("documents", "task='classify'"),
    TextPretrainingTask: ("documents", "task='pretrain'"),
}


def made(kind: type[BaseTask]) -> BaseTask:
    if kind is SequentialMNISTTask:
        return SequentialMNISTTask(hidden_size=4, rampdown_epochs=0)
    if kind is LanguageModelingTask:
        return LanguageModelingTask(None, 4, 4, 1)
    return small_classifier() if kind is TextClassificationTask else small_pretraining()


def elec(root: Path, task: Task) -> ElecDataModule:
    write_elec(root, as_documents(make_texts()))
    return ElecDataModule(root, task=task, cache=root / "cache", batch_size=4, eval_batch_size=4, max_tokens=5)


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (SequentialMNISTTask, "classify"),
        (SequentialMNISTTask, "pretrain"),
        (LanguageModelingTask, "classify"),
        (TextClassificationTask, "pretrain"),
        (TextPretrainingTask, "classify"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_documents_for_another_task(kind: type[BaseTask], task: Task, command: str, tmp_path: Path) -> None:
    trainer = quiet_trainer(max_steps=1)
    with refused("datamodule", *KINDS[kind], f"for {kind.__name__}", "got ElecDataModule", f"task={task!r}"):
        getattr(trainer, command)(made(kind), datamodule=elec(tmp_path, task))
    assert trainer.global_step == 0


@pytest.mark.parametrize("kind", [LanguageModelingTask, TextPretrainingTask])
def test_documents_that_are_read_as_one_text(kind: type[BaseTask], tmp_path: Path) -> None:
    trainer = quiet_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(made(kind), datamodule=elec(tmp_path, "pretrain"))
    assert trainer.global_step == 1


class Theirs(SequentialMNISTTask):
    """Reads whatever there is."""

    document_tasks = None


def test_a_task_of_a_users_own_may_read_all(tmp_path: Path) -> None:
    assert Theirs(hidden_size=4).reads(elec(tmp_path, "classify"))
    assert not SequentialMNISTTask(hidden_size=4).reads(elec(tmp_path, "classify"))
    assert BaseTask.document_tasks is None

"""Documents in the study: they start from a language model, and each method trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_advdrop import IMDBDataModule, TextClassificationTask, TextPretrainingTask
from lightning_advdrop.datamodules.roots import DATA_ROOT_VARIABLE
from lightning_advdrop.tuning.searching import quiet
from tests.benchmarks.study import __main__ as study
from tests.benchmarks.study.methods import METHODS, TEXT
from tests.benchmarks.study.tasks import TASKS, TaskExperiment
from tests.benchmarks.study.text import PRETRAINED, DocumentsTask
from tests.helpers.document_files import Sizes, make_texts, write_imdb
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.studied import built_at_lowest, result_of

_NAME = "documents_2000"


@pytest.fixture
def few_documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few reviews, a language model of them where the task looks for it, and a task of a few steps."""
    monkeypatch.setattr(IMDBDataModule, "n_documents", None)
    write_imdb(tmp_path, make_texts(Sizes(train=120, test=40, unlabelled=20)))
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setitem(TASKS, _NAME, DocumentsTask(n_train=16, unlabelled=20, steps=4, batch_size=4))
    data = IMDBDataModule(task="pretrain", max_tokens=5, max_vocabulary=20_000, batch_size=4, eval_batch_size=4)
    language_model = TextPretrainingTask(embedding_size=64, hidden_size=128, cutoffs=[6])
    trainer = quiet_trainer(max_steps=2, max_epochs=-1, limit_val_batches=0)
    trainer.fit(language_model, data)
    trainer.save_checkpoint(PRETRAINED)


@pytest.mark.usefixtures("few_documents")
@pytest.mark.parametrize("name", TEXT)
def test_documents_train_with_each_method(name: str, tmp_path: Path) -> None:
    parts = built_at_lowest(_NAME, name, tmp_path / "run")
    found = result_of(_NAME, parts, tmp_path / "run")
    assert isinstance(parts.model, TextClassificationTask)
    assert found["steps"] == 4
    assert 0 <= found["value"] < 1
    assert 0 <= found["test"] < 1


@pytest.mark.usefixtures("few_documents")
def test_the_rate_falls_to_a_hundredth(tmp_path: Path) -> None:
    with quiet():
        parts = TaskExperiment(_NAME).build(METHODS["none"], {}, 3, tmp_path / "run")
        parts.trainer.fit(parts.model, datamodule=parts.data)
    (optimizer,) = parts.trainer.optimizers
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * TASKS[_NAME].rate)


def test_the_runs_of_text_have_a_folder_of_their_own(tmp_path: Path) -> None:
    assert study.file_of(_NAME, tmp_path) == tmp_path / "text" / "documents_2000.csv"
    chosen = study.settings(_NAME, tmp_path)
    assert [method.name for method in chosen.methods] == [*TEXT]
    assert (chosen.metric, chosen.tested) == ("val/error", "test/error")

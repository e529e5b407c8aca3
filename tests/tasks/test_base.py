"""What all tasks share: how they log, and that evaluation mode ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from lightning_advdrop import LanguageModelingTask
from lightning_advdrop.datamodules import Vocabulary
from lightning_advdrop.tasks import BaseTask, cache_perplexities, generate
from lightning_advdrop.tasks.base import evaluating
from tests.helpers.documents import Documents
from tests.helpers.text_tasks import built


class Task(BaseTask):
    """Fills the blanks, and notes the order."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.logged: dict[str, dict[str, Any]] = {}
        self.make_parts()

    def make_model(self) -> None:
        self.order.append("model")
        self.model = nn.Sequential(nn.Dropout(), nn.Dropout())

    def make_metrics(self) -> Mapping[str, Metric]:
        self.order.append("metrics")
        return {"mean": MeanMetric()}

    def evaluate(self, stage: str, batch: Tensor, batch_idx: int) -> None:
        self._log(stage, batch.mean(), len(batch), batch)

    def log(self, name: str, value: Any, **how: Any) -> None:  # type: ignore[override]
        self.logged[name] = {"value": value, **how}


def test_the_parts_are_made_in_order() -> None:
    assert Task().order == ["model", "metrics", "metrics", "metrics"]


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_every_mean_of_an_epoch_is_that_of_all_processes(stage: str) -> None:
    task = Task()
    task.evaluate(stage, torch.tensor([1.0, 3.0]), 0)
    assert set(task.logged) == {f"{stage}/loss", f"{stage}/mean", *(["train/loss_step"] if stage == "train" else [])}
    for name, logged in task.logged.items():
        assert logged["on_epoch"] != logged["on_step"]
        if logged["on_epoch"]:
            assert logged.get("sync_dist") or isinstance(logged["value"], Metric), name
    assert task.logged[f"{stage}/loss"]["batch_size"] == 2
    assert float(task.logged[f"{stage}/mean"]["value"].compute()) == 2


def test_every_part_returns_to_its_own_mode() -> None:
    layers = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with evaluating(layers):
        assert not any(part.training for part in layers.modules())
    assert [part.training for part in layers.modules()] == [True, True, False]


class Broken(LanguageModelingTask):
    def forward(self, tokens: Tensor, states: Any = None) -> Any:
        assert not self.training
        raise RuntimeError("broke")


def broken_batches() -> Iterator[tuple[Tensor, Tensor]]:
    yield torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64)
    raise RuntimeError("broke")


def test_the_mode_is_restored_where_evaluation_fails() -> None:
    task = Broken(5, 3, 4, 2)
    task.vocabulary = Vocabulary(list("abcde"), [1] * 5)
    with pytest.raises(RuntimeError, match="broke"):
        generate(task, "a")
    assert task.training
    model = LanguageModelingTask(5, 3, 4, 2)
    with pytest.raises(RuntimeError, match="broke"):
        cache_perplexities(model, broken_batches(), thetas=[0.1], interpolations=[0.1], window=2)
    assert all(part.training for part in model.modules())
    classifier = built(Documents()).train()
    classifier.model.head[0] = nn.Linear(1, 1)  # of another size than what comes
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        classifier.classify(["n1"])
    assert all(part.training for part in classifier.modules())


def test_the_old_name_of_the_vocabulary_warns() -> None:
    task = LanguageModelingTask(3, 3, 4, 2)
    with pytest.warns(DeprecationWarning, match="LanguageModelingTask.words is deprecated, use vocabulary.words"):
        task.words = ["<unk>", "to", "be"]
    assert task.vocabulary is not None
    assert task.vocabulary.unknown == "<unk>"
    with pytest.warns(DeprecationWarning, match="LanguageModelingTask.words is deprecated, use vocabulary.words"):
        assert task.words == task.vocabulary.words

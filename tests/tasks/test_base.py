"""What all tasks share: how they log, and that evaluation mode ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from lightning_advdrop import (
    AdversarialDropoutCallback,
    DigitsDataModule,
    ExponentialAveraging,
    LanguageModelingTask,
    SequentialMNISTTask,
    TextClassificationTask,
    TextPretrainingTask,
)
from lightning_advdrop.datamodules import Vocabulary
from lightning_advdrop.tasks import BaseTask, RMSpropTF, cache_perplexities, generate
from lightning_advdrop.tasks.base_task import evaluating
from tests.helpers.documents import Documents
from tests.helpers.messages import names
from tests.helpers.plain_models import quiet_trainer
from tests.helpers.releases import SAFE
from tests.helpers.small_texts import small_data, small_task
from tests.helpers.text_tasks import built, small_classifier, small_pretraining


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


class Kind(NamedTuple):
    """A small task and its data, the argument that clips, and what optimizes."""

    make: Callable[..., BaseTask]
    data: Callable[[Path], L.LightningDataModule]
    clip: str
    optimizer: type[torch.optim.Optimizer]
    gamma: float | None = None


KINDS = {
    "images": Kind(
        lambda **given: SequentialMNISTTask(8, 32, **{"rampdown_epochs": 2} | given),
        lambda _: DigitsDataModule(by="row", train_size=100, batch_size=20),
        "clip_value",
        RMSpropTF,
    ),
    "documents": Kind(small_classifier, lambda _: Documents(), "clip_norm", torch.optim.Adam, 0.9998),
    "pre-training": Kind(
        small_pretraining, lambda _: Documents(task="pretrain"), "clip_norm", torch.optim.Adam, 0.9999
    ),
    "language": Kind(lambda **given: small_task(rate_decay=0.5, **given), small_data, "clip_norm", torch.optim.SGD),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class Gradients(L.Callback):
    """Keeps the gradients of the last step."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        grads = {name: p.grad.flatten() for name, p in pl_module.named_parameters() if p.grad is not None}
        self.all = torch.cat(list(grads.values()))
        self.but_embedding = torch.cat([grad for name, grad in grads.items() if "embedding" not in name])


@each_kind
@pytest.mark.parametrize("own", [None, 1e-3])
def test_gradients_are_clipped_unless_the_trainer_says_otherwise(kind: Kind, own: float | None, tmp_path: Path) -> None:
    task, seen, by = kind.make(**{kind.clip: 2e-3}), Gradients(), kind.clip.removeprefix("clip_")
    clip: Any = {} if own is None else {"gradient_clip_val": own, "gradient_clip_algorithm": by}
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=0, callbacks=[seen], **clip)
    trainer.fit(task, kind.data(tmp_path))
    if by == "value":
        largest = seen.all.abs().max()
    elif isinstance(task, TextClassificationTask | TextPretrainingTask) and own is None:
        largest = seen.but_embedding.norm()
        assert seen.all.norm() > 1.2 * largest
    else:
        largest = seen.all.norm()
    assert float(largest) == pytest.approx(own or 2e-3, rel=1e-3)


@each_kind
def test_optimizers(kind: Kind, tmp_path: Path) -> None:
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(kind.make(), kind.data(tmp_path))
    [schedule] = trainer.lr_scheduler_configs
    assert type(trainer.optimizers[0]) is kind.optimizer
    assert getattr(schedule.scheduler, "gamma", None) == kind.gamma
    assert schedule.interval == ("epoch" if kind.gamma is None else "step")


def test_the_published_settings() -> None:
    text = {"embedding_size": 256, "hidden_size": 1024, "dropout": 0.5, "clip_norm": 1.0}
    for task, settings in (
        (SequentialMNISTTask(), {"hidden_size": 100, "learning_rate": 1e-3, "smoothing": 0.5, "clip_value": 1.0}),
        (TextPretrainingTask(), text | {"learning_rate": 1e-3, "decay": 0.9999}),
        (TextClassificationTask(), text | {"learning_rate": 5e-4, "decay": 0.9998, "classifier_size": 30}),
    ):
        assert settings.items() <= task.hparams.items()


class StopAfter(L.Callback):
    """Ends a run as an interruption would, without telling it beforehand how long it will be."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")
@pytest.mark.parametrize(("name", "settings"), [("images", {}), ("documents", {"dropout": 0.0})])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one_to_the_bit(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Shuffled data, schedules of rate and weight, an average, and the regularizer's own random numbers all go on."""

    def train(epochs: int, folder: str, ckpt_path: str | None = None) -> tuple[Tensor, str]:
        L.seed_everything(5, verbose=False)
        task, averaging = KINDS[name].make(**settings), ExponentialAveraging(decay=0.9, use_buffers=False)
        trainer = quiet_trainer(
            max_epochs=3,
            callbacks=[AdversarialDropoutCallback(rate=0.05, rampup_epochs=2), averaging, StopAfter(epochs)],
            enable_checkpointing=True,
            default_root_dir=tmp_path / folder,
        )
        trainer.fit(task, KINDS[name].data(tmp_path), ckpt_path=ckpt_path, **SAFE)
        path = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        return torch.cat([p.detach().flatten() for p in task.parameters()]), path

    whole, _ = train(3, "whole")
    _, path = train(1, "stopped")
    resumed, _ = train(3, "resumed", path)
    assert torch.equal(whole, resumed)


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
    with pytest.warns(DeprecationWarning, match=names("LanguageModelingTask.words", "vocabulary.words")):
        task.words = ["<unk>", "to", "be"]
    assert task.vocabulary is not None
    assert task.vocabulary.unknown == "<unk>"
    with pytest.warns(DeprecationWarning, match=names("LanguageModelingTask.words", "vocabulary.words")):
        assert task.words == task.vocabulary.words

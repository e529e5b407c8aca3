"""Lightning and the loaders of documents: epochs that go on, shares of processes, predictions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from lightning_advdrop.datamodules import TextBatch
from tests.helpers.document_files import Sizes, SmallIMDB, make_texts, write_imdb
from tests.helpers.messages import refused


class Recorder(L.LightningModule):
    """Remembers the tokens that it has been trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = batch.values() if isinstance(batch, dict) else [batch]
        self.seen.append([int(number) for part in parts for number in part[0].flatten()])
        return self.weight**2

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Lightning asks for one where there are validation data."""

    def predict_step(self, batch: TextBatch, batch_idx: int) -> Tensor:
        return batch.lengths

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_imdb(tmp_path, make_texts(Sizes(train=30, test=9, unlabelled=25)))
    return tmp_path


class Saver(L.Callback):
    """Saves a checkpoint behind the third batch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            trainer.save_checkpoint(self.path)


def trainer(epochs: int, *callbacks: L.Callback) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,
    )


def data(root: Path, **arguments: Any) -> SmallIMDB:
    return SmallIMDB(root, cache=root / "cache", batch_size=4, eval_batch_size=4, **arguments)


@pytest.mark.parametrize("task", ["classify", "pretrain"])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(root: Path, task: str) -> None:
    whole, begun, resumed = Recorder(), Recorder(), Recorder()
    trainer(3).fit(whole, data(root, task=task))
    first = trainer(2)
    first.fit(begun, data(root, task=task))
    first.save_checkpoint(root / "two.ckpt")
    trainer(3).fit(resumed, data(root, task=task), ckpt_path=root / "two.ckpt")
    assert begun.seen + resumed.seen == whole.seen
    epoch = len(whole.seen) // 3
    assert (whole.seen[:epoch] == whole.seen[epoch : 2 * epoch]) == (task == "pretrain")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [({"seed": 1}, ("data.seed must be 0", 1)), ({"reverse": True}, ("reverse must be False", True))],
)
def test_a_run_goes_on_within_an_epoch_of_the_same_text(root: Path, arguments: Any, parts: Any) -> None:
    text: dict[str, Any] = {"task": "pretrain", "max_tokens": 5}
    trainer(1, Saver(root / "three.ckpt")).fit(Recorder(), data(root, **text))
    with refused(*parts):
        trainer(1).fit(Recorder(), data(root, **text, **arguments), ckpt_path=root / "three.ckpt")


def test_loaders_leave_the_global_random_numbers_alone(root: Path) -> None:
    """Or a run that is resumed, which starts them before it gets its state back, would draw other dropout."""
    module = data(root)
    module.prepare_data()
    module.setup()
    for loader in (module.train_dataloader(), module.val_dataloader(), module.predict_dataloader()):
        before = torch.get_rng_state()
        next(iter(loader))
        assert torch.equal(torch.get_rng_state(), before)


def labelled(module: SmallIMDB) -> list[TextBatch]:
    loader: Any = module.train_dataloader()
    return [batch["labelled"] for batch, _, _ in loader]


def documents(batches: list[TextBatch]) -> Counter[tuple[int, ...]]:
    return Counter(
        tuple(row[:length])
        for batch in batches
        for row, length in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    )


def test_processes_share_the_documents(root: Path) -> None:
    alone = data(root, max_tokens=100)
    alone.setup()
    shares = []
    for rank in range(2):
        module = data(root, max_tokens=100)
        module.setup()
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2)  # type: ignore[assignment]
        shares.append(labelled(module))
    assert [len(batch.labels) for batch in shares[0]] == [len(batch.labels) for batch in shares[1]]
    assert documents(shares[0]) + documents(shares[1]) == documents(labelled(alone))


def test_predictions_come_in_the_order_of_the_documents(root: Path) -> None:
    module = data(root)
    batches: Any = trainer(1).predict(Recorder(), module)
    assert torch.cat(batches).tolist() == module._sets["test"].lengths.tolist()

"""Text tasks in two processes, which have to learn what one learns with batches twice as large."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_advdrop import AdversarialDropoutCallback, TextClassificationTask, TextPretrainingTask
from tests.helpers.distributed import GlooStrategy
from tests.helpers.document_files import Sizes, SmallIMDB, make_texts, write_imdb
from tests.helpers.plain_models import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*barrier.*:UserWarning")

SIZES: dict[str, Any] = {"embedding_size": 6, "hidden_size": 8, "dropout": 0.0, "learning_rate": 1e-2}


def fit(
    task: L.LightningModule, root: Path, kind: Literal["classify", "pretrain"], processes: int, *callbacks: L.Callback
) -> dict[str, float]:
    """What an epoch logs. The losses of validation are those of the weights after training."""
    L.seed_everything(1, verbose=False)
    size = 4 // processes
    data = SmallIMDB(root, task=kind, train_size=24, max_tokens=8, batch_size=size, eval_batch_size=size, cache=root)
    strategy = GlooStrategy() if processes > 1 else "auto"
    trainer = quiet_trainer(
        max_epochs=1,
        callbacks=[*callbacks, ModelCheckpoint(root / f"{processes}", "last")],
        enable_checkpointing=True,
        num_sanity_val_steps=0,
        strategy=strategy,
        devices=processes,
    )
    trainer.fit(task, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_classification(tmp_path: Path) -> None:
    """Labelled and unlabelled documents are shared out, and losses are means over both processes."""
    write_imdb(tmp_path, make_texts(Sizes(train=40, test=4, unlabelled=24)))
    # From one start mask for all, so that processes which draw from generators of their own find the same masks.
    settings: dict[str, Any] = {"rate": 0.2, "start": "ones", "share_masks": True, "divergence": "ce"}
    alone, together = (
        fit(
            TextClassificationTask(**SIZES),
            tmp_path,
            "classify",
            processes,
            AdversarialDropoutCallback(sites="recurrent", **settings),
        )
        for processes in (1, 2)
    )
    assert {"train/loss", "train/penalty", "val/loss"} <= alone.keys() == together.keys()
    for name in ("train/loss", "train/penalty", "val/loss"):
        assert together[name] == pytest.approx(alone[name], abs=1e-6)


def test_pretraining(tmp_path: Path) -> None:
    """A process whose batch has no word of a cluster of the softmax doesn't keep the others waiting for gradients."""
    write_imdb(tmp_path, make_texts(Sizes(train=40, test=4, unlabelled=24)))
    alone, together = (
        fit(TextPretrainingTask(**SIZES, cutoffs=[6]), tmp_path, "pretrain", processes) for processes in (1, 2)
    )
    assert {"train/loss", "val/loss"} <= alone.keys() == together.keys()
    for name in ("train/loss", "val/loss"):
        assert together[name] == pytest.approx(alone[name], abs=1e-6)
    # The checkpoint, which one process writes, holds the states of all columns of the text.
    [one], [both] = (
        torch.load(tmp_path / f"{processes}" / "last.ckpt", weights_only=True)["carried_states"] for processes in (1, 2)
    )
    for mine, ours in zip(one, both, strict=True):
        assert ours.shape == (1, 4, 8)
        torch.testing.assert_close(ours, mine, atol=1e-6, rtol=0)

"""Statistics of masks over several processes, and their one gap."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, MaskStatistics
from lightning_advdrop.callbacks.mask_statistics import _sum
from lightning_advdrop.masking import MaskSite
from lightning_advdrop.regularizers import Penalty
from tests.helpers.distributed import GlooStrategy
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer, seeded


def site(kind: str, units: int) -> MaskSite:
    return MaskSite(f"part:{kind}", kind, "part", nn.Identity(), units)


def test_what_processes_counted_is_added_up_whatever_the_lengths_of_their_batches() -> None:
    parts = []
    for masks in ([[1.0, 0.0]], [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]):
        statistics = MaskStatistics()
        statistics.count(Penalty(torch.zeros(()), masks={site("activation", len(masks[0])): torch.tensor(masks)}))
        parts.append(statistics.counts)
    statistics.count(Penalty(torch.zeros(()), masks={site("recurrent", 1): torch.tensor([[0.0]])}))
    counts = _sum(parts)
    assert counts["part:activation"].tolist() == [[1, 3, 0], [3, 3, 2]]
    assert counts["part:recurrent"].tolist() == [[1], [1]]


@pytest.mark.parametrize(("rank", "rows"), [(0, [2, 2]), (1, None)])
def test_one_process_goes_on_with_the_counts_of_all(rank: int, rows: list[int] | None) -> None:
    statistics = MaskStatistics()
    trainer: Any = type("Trainer", (), {"global_rank": rank})
    statistics.setup(trainer, PlainModel(), "fit")
    statistics.load_state_dict({"epoch": 3, "counts": {"part:recurrent": torch.tensor([[0, 1], [2, 2]])}})
    assert [counts[1].tolist() for counts in statistics.counts.values()] == ([] if rows is None else [rows])


class Validated(PlainModel):
    """Looks at itself in the process that trains it, since what happens there is not seen in this one."""

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/mean", self(batch[0]).mean(), sync_dist=True)

    def on_fit_end(self) -> None:
        assert self.forward.__func__ is PlainModel.forward  # type: ignore[attr-defined]
        metrics = self.trainer.callback_metrics
        assert metrics["gap/adversarial"] > metrics["gap/random"] > 0


@pytest.mark.filterwarnings("ignore:.*barrier.*:UserWarning", "ignore:Using `DistributedSampler`")
def test_several_processes_are_counted_together_and_log_one_gap() -> None:
    logger = CSVLogger("logs", version="both")
    saving = ModelCheckpoint("saved", "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = quiet_trainer(
        callbacks=[AdversarialDropoutCallback(rate=0.2), MaskStatistics(), InferenceGapMonitor(rate=0.2), saving],
        enable_checkpointing=True,
        strategy=GlooStrategy(),
        devices=2,
        max_epochs=1,
        logger=logger,
        log_every_n_steps=1,
    )
    trainer.fit(seeded(Validated), loader(), loader())
    with Path(logger.log_dir, "masks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shares = np.array([float(row["share"]) for row in rows])
    assert len(shares) == 2 * 12
    np.testing.assert_allclose(shares * 64, np.round(shares * 64), atol=1e-3)  # of all 64 examples
    saved = torch.load("saved/step=1.ckpt", weights_only=True)["callbacks"]["MaskStatistics"]["counts"]
    assert {name: set(counts[1].tolist()) for name, counts in saved.items()} == {
        f"lstm.l{layer}:recurrent": {2 * len(next(iter(loader()))[0])} for layer in (0, 1)
    }

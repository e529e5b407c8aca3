"""One run of a search: which share of the training is over when a validation is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_advdrop.tuning import Parts, Settings, find_methods
from lightning_advdrop.tuning.running import run_once
from tests.helpers.tuned import Sequences, Tagger


class ByHand(Tagger):
    """Steps two optimizers in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.step()
            optimizer.zero_grad()
        return loss

    def configure_optimizers(self) -> Any:
        return [Tagger.configure_optimizers(self), Tagger.configure_optimizers(self)]


class Endless(Sequences):
    """Data whose length nobody knows."""

    def train_dataloader(self) -> DataLoader[Any]:
        class Stream(IterableDataset[Any]):
            def __iter__(stream) -> Any:  # noqa: N805
                return iter(self.loader(0))

        return DataLoader(Stream(), batch_size=None)


@pytest.mark.parametrize(
    ("model", "data", "trainer", "expected"),
    [
        (Tagger, Sequences, {"max_epochs": 4}, [0.25, 0.5, 0.75, 1.0]),
        (Tagger, Sequences, {"max_steps": 8}, [0.25, 0.5, 0.75, 1.0]),
        (Tagger, Sequences, {"max_epochs": 10, "max_steps": 4}, [0.5, 1.0]),
        (Tagger, Sequences, {"max_epochs": 2, "val_check_interval": 1}, [0.25, 0.5, 0.75, 1.0]),
        (Tagger, Sequences, {"max_epochs": 4, "accumulate_grad_batches": 2}, [0.25, 0.5, 0.75, 1.0]),
        (
            Tagger,
            Sequences,
            {"max_epochs": 4, "callbacks": [GradientAccumulationScheduler({0: 2, 2: 1})]},
            [0.25, 0.5, 0.75, 1.0],
        ),
        (ByHand, Sequences, {"max_epochs": 4}, [0.25, 0.5, 0.75, 1.0]),
        (Tagger, Endless, {"max_epochs": 4}, [0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_the_share_of_the_training(model: Any, data: Any, trainer: Any, expected: list[float], tmp_path: Path) -> None:
    shares: list[float] = []
    made = Trainer(**trainer, accelerator="cpu", logger=False, num_sanity_val_steps=0, enable_checkpointing=False)
    settings = Settings(find_methods(["none"], {}))
    run_once(Parts(model(), data(), made), settings, tmp_path, lambda _, __, share: shares.append(share), test=False)
    assert shares == expected

"""A BERT of Hugging Face, with random weights, in a LightningModule of a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from tests.helpers.clients import check_replay, check_training
from tests.helpers.plain_models import quiet_trainer

CONFIG: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
    "num_labels": 3,
}


class Classifier(L.LightningModule):
    def __init__(self, attention: str) -> None:
        super().__init__()
        self.bert = BertForSequenceClassification(BertConfig(**CONFIG | {"attn_implementation": attention}))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.bert(**batch).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def documents() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    examples = [
        {
            "input_ids": torch.randint(50, (8,), generator=generator),
            "attention_mask": (torch.arange(8) < 4 + number % 5).long(),
            "labels": torch.tensor(number % 3),
        }
        for number in range(8)
    ]
    return DataLoader(examples, batch_size=4)  # type: ignore[arg-type]


def train(callbacks: Sequence[Any], attention: str = "sdpa") -> tuple[Classifier, Mapping[str, Any]]:
    model = Classifier(attention)
    trainer = quiet_trainer(callbacks=list(callbacks), max_epochs=1)
    trainer.fit(model, documents())
    return model, trainer.callback_metrics


@pytest.mark.parametrize("sites", ["dropout", "embedding"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_it_trains(sites: str, attention: str) -> None:
    check_training(lambda callbacks: train(callbacks, attention), sites=sites, rate=0.1)


@pytest.mark.parametrize("sites", ["dropout", "embedding"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_noise_is_replayed(sites: str, attention: str) -> None:
    check_replay(lambda callbacks: train(callbacks, attention), sites=sites)

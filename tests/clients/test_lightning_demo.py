"""Lightning's demo: an encoder and decoder Transformer as a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.demos import LightningTransformer

from tests.helpers.clients import check_replay, check_training
from tests.helpers.plain_models import quiet_trainer

WORDS = 24


def train(callbacks: Sequence[Any]) -> tuple[LightningTransformer, Mapping[str, Any]]:
    # The data set of the demo reads this file and downloads it only where there is none.
    Path("data").mkdir(exist_ok=True)
    words = [f"w{(7 * i * i + i) % WORDS}" for i in range(300)]
    Path("data/wikitext-2.txt").write_text(" ".join(words) + "\n", encoding="utf-8")
    model = LightningTransformer(vocab_size=WORDS + 1)
    trainer = quiet_trainer(callbacks=list(callbacks), max_epochs=1, limit_train_batches=2)
    trainer.fit(model)
    return model, trainer.callback_metrics


@pytest.mark.parametrize("sites", ["dropout", "embedding"])
def test_it_trains(sites: str) -> None:
    check_training(train, sites=sites, rate=0.1, divergence="mse_logits")


@pytest.mark.parametrize("sites", ["dropout", "embedding"])
def test_noise_is_replayed(sites: str) -> None:
    check_replay(train, sites=sites, divergence="mse_logits")

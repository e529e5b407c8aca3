"""The recurrent models of pytorch-forecasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
from pytorch_forecasting import DeepAR, RecurrentNetwork, TimeSeriesDataSet

from tests.helpers.clients import check_replay, check_training
from tests.helpers.plain_models import quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute .* is an instance of `nn.Module`:UserWarning"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric val_loss:RuntimeWarning"),
]

SERIES, LENGTH = 4, 24


def series() -> TimeSeriesDataSet:
    generator = np.random.default_rng(0)
    data = {
        "time": np.tile(np.arange(LENGTH), SERIES),
        "series": np.repeat([f"s{number}" for number in range(SERIES)], LENGTH),
        "value": generator.normal(size=SERIES * LENGTH).cumsum(),
    }
    return TimeSeriesDataSet(
        pd.DataFrame(data),
        time_idx="time",
        target="value",
        group_ids=["series"],
        min_encoder_length=4,  # of several lengths, so that sequences are packed
        max_encoder_length=8,
        max_prediction_length=3,
        time_varying_unknown_reals=["value"],
    )


def train(model_type: Any, cell_type: str, callbacks: Sequence[Any]) -> tuple[L.LightningModule, Mapping[str, Any]]:
    data = series()
    model = model_type.from_dataset(data, cell_type=cell_type, hidden_size=8, rnn_layers=2, dropout=0.2)
    trainer = quiet_trainer(callbacks=list(callbacks), max_epochs=1, limit_train_batches=2)
    trainer.fit(model, data.to_dataloader(train=True, batch_size=8, num_workers=0))
    return model, trainer.callback_metrics


each_model = pytest.mark.parametrize("model_type", [RecurrentNetwork, DeepAR], ids=lambda model: model.__name__)
each_cell = pytest.mark.parametrize("cell_type", ["LSTM", "GRU"])


@each_model
@each_cell
def test_it_trains(model_type: Any, cell_type: str) -> None:
    check_training(lambda callbacks: train(model_type, cell_type, callbacks), rate=0.2, divergence="mse")


@each_model
@each_cell
def test_noise_is_replayed(model_type: Any, cell_type: str) -> None:
    check_replay(lambda callbacks: train(model_type, cell_type, callbacks), divergence="mse")

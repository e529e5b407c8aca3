"""The LSTM of neuralforecast, which is a module of `pytorch_lightning`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
from neuralforecast import NeuralForecast
from neuralforecast.models import LSTM

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.clients import check_replay, check_training, trained

pytestmark = [
    pytest.mark.filterwarnings("ignore:val_check_steps is greater than max_steps:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
]

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def train(callbacks: Sequence[Any], **options: Any) -> tuple[pl.LightningModule, Mapping[str, Any]]:
    generator = np.random.default_rng(0)
    data = {
        "unique_id": np.repeat(["a", "b"], 30),
        "ds": np.tile(np.arange(30), 2),
        "y": generator.normal(size=60).cumsum(),
    }
    model = LSTM(
        h=3,
        input_size=8,
        encoder_n_layers=2,
        encoder_hidden_size=8,
        encoder_dropout=0.2,
        decoder_hidden_size=8,
        max_steps=2,
        windows_batch_size=8,
        callbacks=list(callbacks),
        **QUIET,
        **options,
    )
    forecast = NeuralForecast(models=[model], freq=1)
    forecast.fit(pd.DataFrame(data))
    (fitted,) = forecast.models
    return fitted, fitted.metrics


@pytest.mark.parametrize("recurrent", [False, True])
def test_it_trains(recurrent: bool) -> None:
    # The recurrent decoder is a layer that is projected to one unit. That its rescaled mask has no slope at the mask of
    # ones is seen by the searches of the base pass; a probe begins with the unit dropped.
    search = {"search": "gradient"} if recurrent else {}
    check_training(lambda callbacks: train(callbacks, recurrent=recurrent), rate=0.2, divergence="mse", **search)


@pytest.mark.parametrize("recurrent", [False, True])
def test_noise_is_replayed(recurrent: bool) -> None:
    check_replay(lambda callbacks: train(callbacks, recurrent=recurrent), divergence="mse")


def test_no_cluster_is_started() -> None:
    trained(train, [AdversarialDropoutCallback(divergence="mse")])
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized()

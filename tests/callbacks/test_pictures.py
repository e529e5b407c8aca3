"""Pictures and settings go to the loggers, and callbacks and tables show themselves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import nn

from lightning_advdrop import (
    AdversarialDropoutCallback,
    InferenceGapMonitor,
    KeepBest,
    MaskStatistics,
    RDropCallback,
    RegularizerCallback,
)
from lightning_advdrop.callbacks.settings import settings_of
from lightning_advdrop.drawing import GAP_LINES, gap_lines
from lightning_advdrop.loggers import WandbRunLogger
from lightning_advdrop.regularizers import AdversarialDropout
from tests.helpers.messages import refused
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer
from tests.helpers.wandb_files import OfflineRun, read_offline_runs

GAPS = {name for name, _, _ in GAP_LINES}


class Validated(PlainModel):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.training_step(batch, batch_idx))


def fit(logger: Any, *callbacks: L.Callback, epochs: int = 3, ckpt_path: str | None = None) -> L.Trainer:
    trainer = quiet_trainer(callbacks=[*callbacks], logger=logger, max_epochs=epochs, log_every_n_steps=1)
    trainer.fit(Validated(), loader(), loader(), ckpt_path=ckpt_path)
    return trainer


@pytest.fixture
def in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights & Biases begins anew."""
    wandb.teardown()
    yield
    wandb.teardown()


def logged() -> OfflineRun:
    wandb.finish()
    wandb.teardown()
    (found,) = read_offline_runs(Path("logs/wandb"))
    return found


def images(folder: Path) -> dict[str, list[int]]:
    """The steps of each picture in TensorBoard's files."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found: dict[str, list[int]] = {}
    for path in folder.rglob("events.out.tfevents.*"):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                if value.HasField("image"):
                    found.setdefault(value.tag, []).append(event.step)
    return found


def test_tensorboard_gets_the_pictures_at_the_interval() -> None:
    pytest.importorskip("tensorboardX")
    logger = TensorBoardLogger("logs")
    callbacks: list[L.Callback] = [MaskStatistics(plot_every_n_epochs=2), InferenceGapMonitor(plot_every_n_epochs=2)]
    fit(logger, AdversarialDropoutCallback(), *callbacks)
    logger.experiment.close()
    # Validation counts to the step before its epoch's end, as Lightning logs it.
    assert images(Path("logs")) == {"masks_heat_map": [8, 12], "masks_histogram": [8, 12], "gap/figure": [7, 12]}


@pytest.mark.usefixtures("in_a_new_process")
@pytest.mark.parametrize("kind", [WandbLogger, WandbRunLogger])
def test_weights_and_biases_gets_pictures_and_settings_from_python(kind: Any) -> None:
    pictures: list[L.Callback] = [MaskStatistics(plot_every_n_epochs=0), InferenceGapMonitor(plot_every_n_epochs=0)]
    fit(kind(project="p", save_dir="logs"), AdversarialDropoutCallback(rate=0.3), *pictures, epochs=2)
    found = logged()
    for name in ("masks_heat_map", "gap/figure"):
        (row,) = (row for row in found.history if name in row)
        assert row["trainer/global_step"] == 8
    assert len([path for path in found.files if path.endswith(".png")]) == 3
    settings = found.config["regularizer"]
    assert settings["class_path"] == "lightning_advdrop.AdversarialDropoutCallback"
    assert (settings["init_args"]["rate"], settings["init_args"]["sites"]) == (0.3, "recurrent")
    assert found.names >= GAPS


def test_settings_are_those_of_a_configuration() -> None:
    composed = RegularizerCallback(AdversarialDropout(rate=0.1), sites=["weight"], target=max)
    found = settings_of(composed)
    assert found["class_path"] == "lightning_advdrop.RegularizerCallback"
    assert found["init_args"]["regularizer"]["class_path"] == "lightning_advdrop.regularizers.AdversarialDropout"
    assert found["init_args"]["regularizer"]["init_args"]["rate"] == 0.1
    assert (found["init_args"]["sites"], found["init_args"]["target"]) == (["weight"], "max")
    derived = settings_of(RDropCallback(weight=0.5, sites={"recurrent": 0.2}))["init_args"]
    assert (derived["weight"], derived["sites"], derived["both_losses"]) == (0.5, {"recurrent": 0.2}, True)
    assert settings_of(RDropCallback(output=nn.LSTM))["init_args"]["output"] == "LSTM"


def test_the_gap_is_drawn_with_a_line_for_each_value() -> None:
    axes = gap_lines({0: {"gap/random": 0.1, "gap/adversarial": 0.3}, 2: {"gap/random": 0.2}}).axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert len(lines) == len(GAP_LINES)
    for words, values in (("mean over random masks", [0.1, 0.2]), ("adversarial value", [0.3, np.nan])):
        np.testing.assert_allclose(np.asarray(lines[words].get_xdata(), float), [1, 3])
        np.testing.assert_allclose(np.asarray(lines[words].get_ydata(), float), values)
    assert axes.get_yscale() == "log"


def test_the_picture_of_a_resumed_run_is_whole() -> None:
    monitor, resumed = InferenceGapMonitor(), InferenceGapMonitor()
    trainer = fit(False, monitor, epochs=2)
    assert {epoch: {*values} for epoch, values in monitor.gap_history.items()} == {0: GAPS, 1: GAPS}
    trainer.save_checkpoint("two.ckpt")
    fit(False, resumed, epochs=3, ckpt_path="two.ckpt")
    assert list(resumed.gap_history) == [0, 1, 2]
    assert resumed.gap_history[1] == monitor.gap_history[1]
    with refused("plot_every_n_epochs", 0, -1):
        InferenceGapMonitor(plot_every_n_epochs=-1)


def test_another_fit_begins_with_no_values() -> None:
    monitor = InferenceGapMonitor()
    fit(False, monitor, epochs=3)
    trainer = fit(False, monitor, epochs=1)
    assert list(monitor.gap_history) == [0]
    first = monitor.gap_history[0]
    trainer.fit_loop.max_epochs = 2  # the same fit goes on
    trainer.fit(trainer.lightning_module, loader(), loader())
    assert list(monitor.gap_history) == [0, 1]
    assert monitor.gap_history[0] == first


def test_a_trainer_takes_several_monitors() -> None:
    one, two = InferenceGapMonitor(rate=0.1), InferenceGapMonitor(rate=0.2, plot_every_n_epochs=1)
    trainer = fit(False, one, two, epochs=1)
    one.gap_history, two.gap_history = {0: {"gap/random": 1.0}}, {0: {"gap/random": 2.0}}
    trainer.save_checkpoint("both.ckpt")
    again = [InferenceGapMonitor(rate=0.2), InferenceGapMonitor(rate=0.1)]  # by their settings, in any order
    fit(False, *again, epochs=2, ckpt_path="both.ckpt")
    assert [each.gap_history[0]["gap/random"] for each in again] == [2.0, 1.0]


def test_callbacks_show_their_arguments() -> None:
    shown = [InferenceGapMonitor(rate=0.1), InferenceGapMonitor("weight"), MaskStatistics(), KeepBest()]
    assert list(map(repr, shown)) == [
        "InferenceGapMonitor(rate=0.1)",
        "InferenceGapMonitor(sites='weight')",
        "MaskStatistics()",
        "KeepBest()",
    ]


def test_a_notebook_shows_a_table() -> None:
    model = nn.ModuleDict({"a<b": nn.LSTM(2, 3), "c": nn.Dropout(0.1)})
    table = AdversarialDropoutCallback(sites=["recurrent", "dropout"]).describe(model)
    shown = table._repr_html_()
    assert "<td>a&lt;b.l0:recurrent</td><td>LSTM</td><td>(B, 3)</td>" in shown
    assert shown.endswith("<p>Dropout that is called as a function is found when the forward runs.</p>")
    assert table.startswith("| site")

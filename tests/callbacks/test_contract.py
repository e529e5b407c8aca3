"""What the callback refuses, logs, saves and restores."""

from __future__ import annotations

import copy
import csv
import functools
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_advdrop import AdversarialDropoutCallback, InferenceGapMonitor, RDropCallback, RegularizerCallback
from lightning_advdrop.callbacks.denormals import flush_denormals
from lightning_advdrop.regularizers import AdversarialDropout
from tests.helpers.messages import names, refused
from tests.helpers.plain_models import PlainModel, loader, quiet_trainer, seeded
from tests.helpers.releases import SAFE

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"rate": -0.1}, ("rate", "[0, 1]", -0.1)),
        ({"weight": -1.0}, ("weight", 0, -1.0)),
        ({"call": -1}, ("call", 0, None, -1)),
        ({"rampup_epochs": -1}, ("rampup_epochs", 0, -1)),
        ({"log_every_n_steps": 0}, ("log_every_n_steps", 1, 0)),
        ({"sites": []}, ("sites", [])),
        ({"sites": "hiden"}, ("sites", "'hiden'", "'hiden'", "recurrent, weight")),
    ],
    ids=str,
)
def test_arguments_are_checked_when_it_is_made(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        AdversarialDropoutCallback(**arguments)


class NoRecurrence(PlainModel):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.Identity()  # type: ignore[assignment]


def test_a_model_without_a_place_for_a_mask_is_refused() -> None:
    with refused("sites", "'recurrent'", "NoRecurrence", "LSTM"):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(NoRecurrence(), loader())


def test_manual_optimization_is_refused() -> None:
    model = PlainModel()
    model.automatic_optimization = False
    way_out = "regularizer(lambda: self(x), self, sites=..., target=y)"
    with refused("AdversarialDropoutCallback", "manual", "PlainModel", way_out, error=MisconfigurationException):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(model, loader())


class ByHand(PlainModel):
    """Calls a regularizer itself under manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.regularizer = AdversarialDropout(rate=0.3)
        self.penalties: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        optimizer: Any = self.optimizers()
        base, penalty = self.regularizer(lambda: self(x), self, sites="recurrent", target=y)
        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(base, y) + penalty)
        optimizer.step()
        self.penalties.append(penalty.item())


def test_a_regularizer_may_be_called_under_manual_optimization() -> None:
    model = seeded(ByHand)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    quiet_trainer(max_epochs=1).fit(model, loader())
    assert len(model.penalties) == 4
    assert min(model.penalties) > 0
    assert not any(torch.equal(value, start[name]) for name, value in model.state_dict().items())


def finder(name: str) -> Callback:
    if name == "LearningRateFinder":
        return LearningRateFinder(num_training_steps=3, update_attr=False)
    return BatchSizeFinder(steps_per_trial=1, max_trials=1)


class WithSettings(PlainModel):
    """Has what finders set."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 4
        self.learning_rate = 0.01

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.batch_size)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("LearningRateFinder", "suggestion as that of plain training"), ("BatchSizeFinder", "half of the size")],
)
def test_finders_search_without_the_penalty_and_a_warning_says_so(name: str, advice: str, tmp_path: Path) -> None:
    callback = AdversarialDropoutCallback(rate=0.3)
    penalties: list[int] = []
    callback.listeners.append(lambda penalty: penalties.append(1))
    trainer = quiet_trainer(callbacks=[finder(name), callback], max_steps=1, default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match=names("callbacks", name, "without the penalty", advice)):
        trainer.fit(seeded(WithSettings))
    assert len(penalties) == 1  # of the step that was trained after the search


def test_a_module_that_does_not_contain_the_sites_is_refused() -> None:
    with refused("module", "''", "'head'"):
        quiet_trainer(callbacks=[AdversarialDropoutCallback(module="head")]).fit(PlainModel(), loader())


class InlineModel(PlainModel):
    """Computes its prediction in the training step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        output, _ = self.lstm(batch[0])
        return F.cross_entropy(self.head(output[:, -1]), batch[1])


def test_a_step_that_calls_only_the_masked_layer_is_refused() -> None:
    with refused("module", "training_step", "(lstm)", "only", "LightningModule"):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(InlineModel(), loader())


class NoCall(PlainModel):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return self.head.weight.sum()


def test_a_step_that_calls_nothing_is_refused() -> None:
    with refused("module", "training_step", "(lstm)", "none", "LightningModule"):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(NoCall(), loader())


class NoLoss(PlainModel):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        self(batch[0])
        return {"cost": 1.0}


def test_a_step_without_a_loss_is_refused() -> None:
    with refused("training_step", "'loss'", "dict", "cost"):
        quiet_trainer(callbacks=[AdversarialDropoutCallback()]).fit(NoLoss(), loader())


def logged(folder: Path, every: int | None, **trainer: Any) -> dict[str, list[int]]:
    """At which steps each metric was written, in two epochs of four batches."""
    logger = CSVLogger(folder)
    callback = AdversarialDropoutCallback(log_every_n_steps=every)
    quiet_trainer(callbacks=[callback], logger=logger, **trainer).fit(seeded(PlainModel), loader())
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [int(row["step"]) for row in rows if row[name]] for name in rows[0]}


@pytest.mark.parametrize(
    ("every", "trainer", "steps"),
    [
        (3, {"log_every_n_steps": 1}, [0, 3, 6]),
        (1, {"log_every_n_steps": 3}, list(range(8))),
        (None, {"log_every_n_steps": 2}, [1, 3, 5, 7]),  # as Lightning's own metrics
        (1, {"log_every_n_steps": 1, "accumulate_grad_batches": 2}, [0, 1, 2, 3]),
        (None, {"log_every_n_steps": 1, "accumulate_grad_batches": 2}, [0, 1, 2, 3]),
    ],
)
def test_steps_and_epochs_are_logged(
    tmp_path: Path, every: int | None, trainer: dict[str, Any], steps: list[int]
) -> None:
    found = logged(tmp_path, every, **trainer)
    for name in ("weight", "divergence", "flip_rate"):
        assert found[f"advdrop/{name}_step"] == steps
        assert len(found[f"advdrop/{name}"]) == 2  # epochs
    assert len(found["train/penalty"]) == 2


def test_the_padding_mask_has_an_old_name() -> None:
    makers: list[Callable[..., Any]] = [
        AdversarialDropoutCallback,
        RDropCallback,
        InferenceGapMonitor,
        functools.partial(RegularizerCallback, AdversarialDropout()),
    ]
    for make in makers:
        with pytest.warns(DeprecationWarning, match=names("'mask'", "'padding_mask'")):
            callback = make(mask="real")
        assert callback.padding_mask == "real"
        with pytest.warns(DeprecationWarning, match=names(".mask", ".padding_mask")):
            assert callback.mask == "real"
        with pytest.warns(DeprecationWarning, match=names(".site_names", ".site_specs")):
            assert callback.site_names == "recurrent"
        with pytest.warns(DeprecationWarning, match="padding_mask"), refused("padding_mask='x'", "mask='real'"):
            make(padding_mask="x", mask="real")


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")
def test_a_checkpoint_without_the_callback_warns(tmp_path: Path) -> None:
    trainer = quiet_trainer(max_epochs=1, enable_checkpointing=True, default_root_dir=tmp_path)
    trainer.fit(PlainModel(), loader())
    path = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    callback = AdversarialDropoutCallback()
    with pytest.warns(UserWarning, match=names("checkpoint", "AdversarialDropoutCallback")):
        quiet_trainer(callbacks=[callback], max_epochs=2, enable_checkpointing=True, default_root_dir=tmp_path).fit(
            PlainModel(), loader(), ckpt_path=path, **SAFE
        )


def test_the_seed_makes_a_run_repeatable_and_different_seeds_differ() -> None:
    def masks_of(seed: int) -> Tensor:
        callback = AdversarialDropoutCallback()
        torch.manual_seed(seed)
        callback.setup(quiet_trainer(), PlainModel(), "fit")
        return torch.rand(4, generator=callback._generator)

    assert torch.equal(masks_of(1), masks_of(1))
    assert not torch.equal(masks_of(1), masks_of(2))


def test_denormals_are_flushed_once_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        flush_denormals(torch.device("cpu"))
        flush_denormals(torch.device("cpu"))
    assert sum("Denormal" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("late", [False, True])
def test_threads_that_started_before_go_without_and_that_is_said(late: bool) -> None:
    """In a process of its own, since threads that have started can't be stopped."""
    code = f"""
import torch, warnings
from lightning_advdrop.callbacks import flush_denormals
torch.set_num_threads(2)
def left():
    return (torch.ones(2**20, dtype=torch.int32).view(torch.float32) * 1.0).view(torch.int32).count_nonzero().item()
if {late}:
    left()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    flush_denormals(torch.device("cpu"))
print(left() > 0, any("torch.set_flush_denormal(True)" in str(w.message) for w in caught))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == [str(late), str(late)]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda callback: pickle.loads(pickle.dumps(callback))])
def test_a_copy_draws_the_same_masks(again: Any) -> None:
    callback = AdversarialDropoutCallback(rate=0.2)
    callback._generator.manual_seed(3)
    first, second = again(callback), again(callback)
    drawn = [torch.rand(5, generator=each._generator) for each in (callback, first, second)]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert first.regularizer.rate == 0.2

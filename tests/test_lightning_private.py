"""Both branches of each function of `lightning_advdrop._lightning`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import lightning.pytorch.callbacks
import pytest
import torch
from lightning.fabric import Fabric
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_advdrop import GlobalRandomState, _lightning
from lightning_advdrop._lightning import (
    attach,
    attached_trainer,
    checkpoint_callbacks,
    count_saved_batch,
    drop_wandb_argument,
    finish_saved_epoch,
    forget_average,
    load_module,
    logged_step,
    reads_class_of_checkpoint,
    schedule_once,
    state_key,
    trainer_callbacks,
    trainer_datamodule,
)
from tests.helpers.messages import refused
from tests.helpers.plain_models import loader, quiet_trainer
from tests.helpers.releases import LIGHTNING, SAFE, EMAWeightAveraging, each_package, plain_trainer, since


@each_package
def test_a_module_has_the_trainer_it_was_given_and_before_that_none(package: str) -> None:
    pl_module, trainer = importlib.import_module(package).LightningModule(), plain_trainer(package)
    assert attached_trainer(pl_module) is None
    pl_module.trainer = trainer
    assert attached_trainer(pl_module) is trainer


@pytest.mark.parametrize(
    ("arguments", "left"),
    [({"anonymous": None, "name": None}, {"name": None}), ({"anonymous": "allow"}, {"anonymous": "allow"}), ({}, {})],
)
def test_an_argument_that_nobody_gave_is_not_handed_on(arguments: dict[str, Any], left: dict[str, Any]) -> None:
    logger = SimpleNamespace(_wandb_init=arguments)
    drop_wandb_argument(logger, "anonymous")
    assert arguments == left
    drop_wandb_argument(SimpleNamespace(), "anonymous")


def test_a_module_of_fabric_has_no_trainer() -> None:
    pl_module = LightningModule()
    pl_module.fabric = Fabric(accelerator="cpu", devices=1)
    assert attached_trainer(pl_module) is None


@each_package
def test_the_callbacks_of_a_trainer_are_in_its_order(package: str) -> None:
    callbacks = [importlib.import_module(package).Callback() for _ in range(2)]
    found = trainer_callbacks(plain_trainer(package, callbacks=callbacks))
    assert [each for each in found if each in callbacks] == callbacks
    assert trainer_callbacks(None) == []


def test_the_step_of_logs_is_that_of_the_batches_or_else_of_the_optimizers() -> None:
    trainer = SimpleNamespace(global_step=6, fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace()))
    assert logged_step(trainer) == 6  # type: ignore[arg-type]
    trainer.fit_loop.epoch_loop._batches_that_stepped = 3
    assert logged_step(trainer) == 3  # type: ignore[arg-type]


def test_a_trainer_knows_the_data_that_it_was_given() -> None:
    pl_module, trainer, data = LightningModule(), plain_trainer(), LightningDataModule()
    assert trainer_datamodule(trainer) is trainer_datamodule(None) is None
    attach(pl_module, trainer, data)
    assert attached_trainer(pl_module) is trainer
    assert trainer_datamodule(trainer) is data


def test_a_state_key_is_the_one_that_lightning_makes() -> None:
    callback = Callback()
    settings: dict[str, Any] = {"monitor": "val/loss", "call": None}
    assert state_key(callback, **settings) == callback._generate_state_key(**settings)


@since(2, 6, "the average came with it")
def test_lightnings_average_is_forgotten_and_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, other = EMAWeightAveraging(), Callback()
    theirs._average_model = other._average_model = average = object()  # type: ignore[attr-defined]
    for callback in (theirs, other):
        forget_average(callback)
    assert theirs._average_model is None
    assert other._average_model is average  # type: ignore[attr-defined]
    del theirs._average_model
    with refused("EMAWeightAveraging", lightning.__version__, "ExponentialAveraging", "2.6", error=RuntimeError):
        forget_average(theirs)
    monkeypatch.delattr(lightning.pytorch.callbacks, "WeightAveraging")  # as before release 2.6
    forget_average(theirs)


@each_package
def test_the_checkpoint_callbacks_are_found(package: str) -> None:
    saving = importlib.import_module(f"{package}.callbacks").ModelCheckpoint(monitor="val/loss")
    trainer = importlib.import_module(package).Trainer(logger=False, accelerator="cpu", callbacks=[saving])
    assert checkpoint_callbacks(trainer) == [saving]
    assert checkpoint_callbacks(plain_trainer(package)) == []


def test_releases_that_know_no_restart_at_the_end_of_an_epoch_are_left_alone() -> None:
    finish_saved_epoch(SimpleNamespace(fit_loop=object()))  # type: ignore[arg-type]


@pytest.mark.parametrize(("processed", "due", "stepped"), [(3, False, 6), (3, True, 5), (2, False, 5)])
def test_the_batch_of_a_checkpoint_is_counted_once(processed: int, due: bool, stepped: int) -> None:
    """In a loop of Lightning 2.4: unless it was complete; its step, unless a validation that comes first counts it."""
    counts = SimpleNamespace(completed=2, processed=processed)
    loop = SimpleNamespace(
        restarting=True,
        batch_progress=SimpleNamespace(
            current=counts, increment_completed=lambda: setattr(counts, "completed", counts.completed + 1)
        ),
        _batches_that_stepped=5,
        _should_accumulate=lambda: False,
        _should_check_val_fx=lambda fetcher: due,
    )
    trainer: Any = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop, _data_fetcher=None, _restarting=True))
    count_saved_batch(trainer)
    assert (counts.completed, loop._batches_that_stepped) == (processed, stepped)
    schedule_once(trainer)
    assert not trainer.fit_loop._restarting


class Resumable:
    """A loader that goes on where it was."""

    def __init__(self) -> None:
        self.next = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[torch.Tensor]:
        first, self.next = self.next, 0
        for number in range(first, len(self)):
            self.next = (number + 1) % len(self)
            yield torch.full((1, 2), float(number))

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class Traced(LightningModule):
    """Writes down what it is given, in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 1)
        self.seen: list[Any] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append((self.trainer.current_epoch, batch_idx, float(batch[0, 0]), rate))
        return self.head(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.seen.append(("validation", batch_idx))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


@pytest.mark.filterwarnings("ignore:.*Checkpoint directory", "ignore:.*resuming from a checkpoint that ended")
@pytest.mark.parametrize("care", [[], [GlobalRandomState()]], ids=["plain", "GlobalRandomState"])
def test_within_an_epoch_plain_training_is_resumed_exactly_from_lightning_2_5_on(
    care: list[Callback], tmp_path: Path
) -> None:
    def fit(ckpt_path: Path | None = None) -> list[Any]:
        saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        trainer = quiet_trainer(callbacks=[*care, saving], enable_checkpointing=True, max_epochs=3)
        model = Traced()
        trainer.fit(model, Resumable(), loader(), ckpt_path=ckpt_path, **SAFE)
        return model.seen[model.seen.index((0, 0, 0.0, 0.5)) :] if ckpt_path is None else model.seen

    whole = fit()
    rest = whole[whole.index((1, 2, 2.0, 0.25)) :]
    assert (fit(tmp_path / "step=6.ckpt") == rest) == (bool(care) or LIGHTNING >= (2, 5))


class ReadsNoClass:
    def _parse_ckpt_path(self) -> None: ...


class ReadsClass:
    def _parse_ckpt_path(self) -> str:
        return "_class_path"


@pytest.mark.parametrize(("cli", "reads"), [(object, False), (ReadsNoClass, False), (ReadsClass, True)])
def test_whether_the_class_of_a_checkpoints_model_is_read(cli: type, reads: bool) -> None:
    assert reads_class_of_checkpoint(cli) is reads


class Small(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(2, 2)


class Earlier(Small):
    """Loads as in releases before 2.6."""

    @classmethod
    def load_from_checkpoint(cls, path: Any, map_location: Any = None, strict: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        assert not kwargs
        return super().load_from_checkpoint(path, map_location, **SAFE)


@pytest.mark.parametrize("kind", [Small, Earlier])
def test_a_module_is_loaded_whether_lightning_reads_weights_only_or_not(
    kind: type[Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lightning, "LightningModule", kind)  # the release is told by the base class
    module, trainer = kind(), plain_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "small.ckpt")
    assert torch.equal(load_module(kind, tmp_path / "small.ckpt").head.weight, module.head.weight)

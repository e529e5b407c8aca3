"""Contiguous batches in a Trainer: a run that is stopped anywhere and resumed sees the batches of one that is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_advdrop.datamodules import TextFileDataModule
from tests.helpers.distributed import GlooStrategy
from tests.helpers.messages import refused

N_WORDS = 600
N_TOKENS = 650  # with one more for each of 50 lines
Seen = list[tuple[int, list[list[int]]]]


class Reader(L.LightningModule):
    """Notes every training batch with its epoch, and saves where it is told to."""

    def __init__(self, save_at: str | None = None, path: Path | None = None) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 4)
        self.save_at = save_at
        self.path = path
        self.seen: Seen = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, targets = batch
        self.seen.append((self.current_epoch, torch.cat([tokens, targets]).tolist()))
        loss: Tensor = (self.embedding(tokens) - self.embedding(targets)).square().mean()
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        pass

    def _save(self, where: str) -> None:
        if self.save_at == f"{where} {self.current_epoch}" and self.path is not None and not self.path.exists():
            self.trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._save(f"batch {batch_idx}")

    def on_validation_end(self) -> None:
        if not self.trainer.sanity_checking:
            self._save("validation")

    def on_train_epoch_end(self) -> None:
        self._save("epoch")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., TextFileDataModule]:
    words = np.random.default_rng(0).integers(0, 40, N_WORDS)
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(map(str, line)) for line in words.reshape(-1, 12)))

    def made(**arguments: Any) -> TextFileDataModule:
        defaults: dict[str, Any] = {"batch_size": 4, "length": 12, "seed": 3, "cache": tmp_path / "cache"}
        return TextFileDataModule(text, text, text, **(defaults | arguments))

    return made


def fit(model: Reader, data: TextFileDataModule, resume: Path | None = None, **arguments: Any) -> Reader:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"accelerator": "cpu", "enable_checkpointing": False, "max_epochs": 3}
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(**(quiet | arguments))
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    return model


LIMITS: dict[str, dict[str, Any]] = {
    "epochs": {},
    "no validation": {"limit_val_batches": 0},
    "a limit of batches": {"limit_train_batches": 6},
    "validation within the epoch": {"val_check_interval": 3},
    "steps": {"max_epochs": -1, "max_steps": 33},
}


SAVE_AT = ("batch 0 0", "batch 3 0", "batch 4 1", "validation 1", "epoch 1")
# Each place with each limit, and both kinds of loaders with each of the two.
CASES = [
    *((save_at, limits, True) for save_at in SAVE_AT for limits in LIMITS),
    *(("batch 4 1", limits, False) for limits in LIMITS),
    *((save_at, "epochs", False) for save_at in SAVE_AT),
]


@pytest.mark.parametrize(("save_at", "limit", "random_lengths"), list(dict.fromkeys(CASES)))
def test_resumed_run_is_the_uninterrupted_one(
    data: Callable[..., TextFileDataModule],
    tmp_path: Path,
    save_at: str,
    limit: str,
    random_lengths: bool,
) -> None:
    limits = LIMITS[limit]
    if save_at == "validation 1" and "limit_val_batches" in limits:
        return
    if save_at == "epoch 1" and "max_steps" in limits:
        return  # Lightning then counts the finished epoch twice, and tells any loader the number after the right one
    checkpoint = tmp_path / "stopped.ckpt"
    whole = fit(Reader(save_at, checkpoint), data(random_lengths=random_lengths), **limits)
    done = int(torch.load(checkpoint, weights_only=True)["global_step"])
    assert 0 < done < len(whole.seen)
    resumed = fit(Reader(), data(random_lengths=random_lengths), checkpoint, **limits)
    assert resumed.seen == whole.seen[done:]
    assert torch.equal(resumed.embedding.weight, whole.embedding.weight)


class SaveOnError(L.Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        trainer.save_checkpoint(self.path)


class Falling(Reader):
    """Fails in the middle of a step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if self.current_epoch == 1 and batch_idx == 3:
            raise KeyError("power cut")
        return super().training_step(batch, batch_idx)


def test_a_step_that_failed_is_made_again(data: Callable[..., TextFileDataModule], tmp_path: Path) -> None:
    fallen = Falling()
    with pytest.raises(KeyError, match="power cut"):
        fit(fallen, data(), callbacks=[SaveOnError(tmp_path / "fallen.ckpt")])
    resumed = fit(Reader(), data(), tmp_path / "fallen.ckpt")
    whole = fit(Reader(), data())
    assert fallen.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.embedding.weight, whole.embedding.weight)


def test_every_epoch_is_a_whole_pass_with_lengths_of_its_own(data: Callable[..., TextFileDataModule]) -> None:
    seen = fit(Reader(), data(), max_epochs=6).seen
    passes = [[len(batch) // 2 for epoch, batch in seen if epoch == number] for number in range(6)]
    assert {sum(lengths) for lengths in passes} == {(N_TOKENS - 1) // 4}
    assert len({tuple(lengths) for lengths in passes}) == 6
    assert len({len(lengths) for lengths in passes}) > 1


def test_a_limit_beyond_an_epoch_is_refused(data: Callable[..., TextFileDataModule]) -> None:
    """Lightning would not see the end of such an epoch, and not validate."""
    n_batches = len(fit(Reader(), data(), max_epochs=1).seen)
    assert len(fit(Reader(), data(), max_epochs=1, limit_train_batches=n_batches).seen) == n_batches
    with refused("limit_train_batches", n_batches, 1.0, "random_lengths=True", n_batches + 1):
        fit(Reader(), data(), max_epochs=1, limit_train_batches=n_batches + 1)
    fixed = fit(Reader(), data(random_lengths=False), max_epochs=1, limit_train_batches=1000)
    assert len(fixed.seen) == 14


def batches_of(data: TextFileDataModule, epochs: int) -> list[int]:
    data.setup("fit")
    loader = data.train_dataloader()
    return [loader.batches_in(epoch) for epoch in range(epochs)]


def test_a_limit_beyond_a_later_epoch_is_refused_before_the_first(data: Callable[..., TextFileDataModule]) -> None:
    counts = batches_of(data(), 6)
    fewest = min(counts)
    assert fewest < counts[0]
    model = Reader()
    with refused("limit_train_batches", fewest, "epoch", counts.index(fewest), 1.0, "random_lengths=True", counts[0]):
        fit(model, data(), max_epochs=6, limit_train_batches=counts[0])
    assert not model.seen
    assert len(fit(model, data(), max_epochs=6, limit_train_batches=fewest).seen) == 6 * fewest
    assert len(fit(Reader(), data(), max_epochs=1, limit_train_batches=counts[0]).seen) == counts[0]


def test_without_a_last_epoch_each_is_checked_when_it_starts(data: Callable[..., TextFileDataModule]) -> None:
    counts = batches_of(data(), 20)
    limit = counts[0]
    short = next(epoch for epoch, count in enumerate(counts) if count < limit)
    model = Reader()
    with refused("limit_train_batches", counts[short], "epoch", short, 1.0, "random_lengths=True", limit):
        fit(model, data(), max_epochs=-1, max_steps=limit * 20, limit_train_batches=limit)
    assert len(model.seen) == short * limit
    assert len(fit(Reader(), data(), max_epochs=-1, max_steps=limit, limit_train_batches=limit).seen) == limit


def test_a_finished_run_is_resumed_whatever_the_next_epoch_has(
    data: Callable[..., TextFileDataModule], tmp_path: Path
) -> None:
    counts = batches_of(data(), 20)
    epochs, limit = next(
        (epoch, limit) for epoch, count in enumerate(counts) if (limit := min(counts[:epoch], default=0)) > count
    )
    checkpoint = tmp_path / "finished.ckpt"
    fit(Reader(f"epoch {epochs - 1}", checkpoint), data(), max_epochs=epochs, limit_train_batches=limit)
    assert fit(Reader(), data(), checkpoint, max_epochs=epochs, limit_train_batches=limit).seen == []


def test_resuming_with_other_batches_is_refused(data: Callable[..., TextFileDataModule], tmp_path: Path) -> None:
    checkpoint = tmp_path / "stopped.ckpt"
    fit(Reader("batch 2 0", checkpoint), data(), max_epochs=1)
    with refused("columns", 4, 5):
        fit(Reader(), data(batch_size=5), checkpoint)


@pytest.mark.filterwarnings("ignore:.*barrier.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_two_processes_read_columns_of_their_own(data: Callable[..., TextFileDataModule]) -> None:
    """The mean loss of two processes with two columns each is that of one process with four."""
    strategy = GlooStrategy("fork")
    two = fit(Reader(), data(batch_size=2), strategy=strategy, devices=2, max_epochs=2)
    one = fit(Reader(), data(batch_size=4), max_epochs=2)
    torch.testing.assert_close(two.embedding.weight, one.embedding.weight)

"""What the language modelling task carries: hidden states from batch to batch, and itself from run to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_advdrop import GlobalRandomState, LanguageModelingTask, NonMonotonicAveraging
from tests.helpers.distributed import GlooStrategy
from tests.helpers.messages import refused
from tests.helpers.small_texts import regularizer, small_data, small_task, small_trainer


def test_evaluation_is_one_long_forward(tmp_path: Path) -> None:
    data, task, trainer = small_data(tmp_path, test_batch_size=1), small_task(), small_trainer()
    [tested] = trainer.test(task, data, verbose=False)
    text = torch.as_tensor(data.text("test").copy(), dtype=torch.int64)
    with torch.no_grad():
        logits = task.eval()(text[:-1].unsqueeze(1)).logits.squeeze(1)
    expected = torch.nn.functional.cross_entropy(logits, text[1:])
    assert tested["test/loss"] == pytest.approx(float(expected), rel=1e-5)


class Noting(LanguageModelingTask):
    """Notes the states that batches begin with, and what a plain forward of the batch ends with."""

    def on_train_start(self) -> None:
        super().on_train_start()
        self.before: list[Any] = []
        self.after: list[Any] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        states = self.states_before("train", batch_idx, batch[0])
        self.before.append(states)
        state = torch.get_rng_state()
        with torch.no_grad():
            self.after.append(self(batch[0], states).states)
        torch.set_rng_state(state)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("share_masks", [False, True])
def test_training_carries_the_states_of_the_base_pass(tmp_path: Path, share_masks: bool) -> None:
    task = Noting(None, 6, 8, 2, learning_rate=1.0)
    trainer = small_trainer(callbacks=[regularizer(share_masks=share_masks)])
    trainer.fit(task, small_data(tmp_path, random_lengths=False))
    batches = len(task.before) // 2
    for number, states in enumerate(task.before):
        if number % batches == 0:
            assert states is None  # a text's beginning
            continue
        for given, ended in zip(states, task.after[number - 1], strict=True):
            for one, other in zip(given, ended, strict=True):
                assert not one.requires_grad
                torch.testing.assert_close(one, other)


def test_another_number_of_columns_is_refused() -> None:
    task = small_task(vocabulary_size=9)
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    wide, narrow = (torch.zeros(5, columns, dtype=torch.int64) for columns in (4, 3))
    task.training_step((wide, wide), 0)
    with refused("batch", 3, 4):
        task.training_step((narrow, narrow), 1)
    task.training_step((narrow, narrow), 0)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("averaged", [False, True])
def test_a_run_that_is_resumed_in_the_middle_of_an_epoch(tmp_path: Path, averaged: bool) -> None:
    def callbacks(folder: str) -> Iterator[Any]:
        yield from (regularizer(rampup_epochs=3), GlobalRandomState())
        yield ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=8, save_top_k=-1)
        if averaged:
            yield NonMonotonicAveraging(nonmono=1, from_start=True)

    whole = small_task()
    trainer = small_trainer(callbacks=list(callbacks("saved")), enable_checkpointing=True)
    trainer.fit(whole, small_data(tmp_path))
    middle = tmp_path / "saved" / "step=40.ckpt"
    position = torch.load(middle, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert position["current"]["completed"] > 0
    assert not position["is_last_batch"]
    assert trainer.global_step > 45
    resumed = small_task()
    trainer = small_trainer(callbacks=list(callbacks("again")), enable_checkpointing=True)
    trainer.fit(resumed, small_data(tmp_path), ckpt_path=middle, weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class ByRank(LanguageModelingTask):
    """Draws different dropout in each process, unless a resumed run says otherwise."""

    def on_train_start(self) -> None:
        torch.manual_seed(100 + self.global_rank)


def fit(folder: Path, name: str, ckpt_path: Path | None = None) -> dict[str, Any]:
    saving = ModelCheckpoint(folder / name, "{step}", every_n_train_steps=6, save_top_k=-1)
    task = ByRank(**dict(small_task().hparams))
    small_trainer(
        callbacks=[GlobalRandomState(), saving],
        enable_checkpointing=True,
        max_epochs=1,
        strategy=GlooStrategy(),
        devices=2,
    ).fit(task, small_data(folder, batch_size=2), ckpt_path=ckpt_path, weights_only=None if ckpt_path is None else True)
    return {key: value.clone() for key, value in task.state_dict().items()}


@pytest.mark.filterwarnings("ignore:.*barrier.*:UserWarning", "ignore:The dirpath has changed")
def test_two_processes_that_are_resumed_go_on_to_the_bit(tmp_path: Path) -> None:
    whole = fit(tmp_path, "whole")
    middle = tmp_path / "whole" / "step=12.ckpt"
    saved = torch.load(middle, weights_only=True)
    [(hidden, _), _] = saved["carried_states"]
    assert hidden.shape == (1, 4, 14)
    assert not torch.equal(hidden[:, :2], hidden[:, 2:])
    one, two = saved["callbacks"]["GlobalRandomState"]["processes"]
    assert not torch.equal(one["cpu"], two["cpu"])
    resumed = fit(tmp_path, "resumed", middle)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize(("processes", "columns"), [(1, [4]), (2, [2, 2]), (4, [1, 1, 1, 1]), (5, [1, 1, 1, 1, 0])])
def test_the_columns_are_shared_out(processes: int, columns: list[int]) -> None:
    state = torch.arange(12.0).view(1, 4, 3)
    parts = []
    for rank in range(processes):
        task, trainer = small_task(vocabulary_size=14), SimpleNamespace(world_size=processes, global_rank=rank)
        task.trainer = trainer  # type: ignore[assignment]
        task.on_load_checkpoint({"state_dict": task.state_dict(), "carried_states": [(state, state)]})
        parts.append(task.carried["train"][0][0])
    assert [part.shape[1] for part in parts] == columns
    assert torch.equal(torch.cat(parts, dim=1), state)

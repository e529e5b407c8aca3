"""Language modelling in several processes: each has its own columns, hidden states and dropout, also when resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_advdrop import GlobalRandomState, LanguageModelingTask
from tests.helpers.distributed import GlooStrategy
from tests.helpers.small_texts import small_data, small_task, small_trainer


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

"""The generator of a callback, with one process and with several."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_advdrop import AdversarialDropoutCallback
from tests.helpers.plain_models import QuietModel

STATE = {"strategy": SimpleNamespace(root_device=torch.device("cpu")), "world_size": 2}


def callback_of(rank: int) -> AdversarialDropoutCallback:
    callback = AdversarialDropoutCallback()
    trainer: Any = SimpleNamespace(**STATE, global_rank=rank)
    torch.manual_seed(0)
    callback.setup(trainer, QuietModel(), "fit")
    return callback


def drawn(callback: AdversarialDropoutCallback) -> Tensor:
    return torch.rand(4, generator=callback._generator)


def checkpoint_of(*callbacks: AdversarialDropoutCallback) -> dict[str, Any]:
    """What the first process writes."""
    states = torch.stack([callback.state_dict()["generator"] for callback in callbacks])
    strategy = SimpleNamespace(root_device=torch.device("cpu"), all_gather=lambda _: states)
    trainer: Any = SimpleNamespace(strategy=strategy, world_size=len(callbacks))
    saved: dict[str, Any] = {"callbacks": {callbacks[0].state_key: callbacks[0].state_dict()}}
    callbacks[0].on_save_checkpoint(trainer, QuietModel(), saved)
    state: dict[str, Any] = saved["callbacks"][callbacks[0].state_key]
    return state


def test_each_process_goes_on_where_it_was() -> None:
    callbacks = [callback_of(rank) for rank in (0, 1)]
    for callback in callbacks:
        drawn(callback)
    state = checkpoint_of(*callbacks)
    expected = [drawn(callback) for callback in callbacks]
    assert not torch.equal(*expected)
    for rank in (0, 1):
        resumed = callback_of(rank)
        resumed.load_state_dict(state)
        assert torch.equal(drawn(resumed), expected[rank])


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_that_were_not_there_draw_masks_of_their_own(processes: int) -> None:
    state = checkpoint_of(*(callback_of(rank) for rank in range(processes)))
    assert ("generators" in state) == (processes > 1)
    resumed = [callback_of(rank) for rank in range(4)]
    for callback in resumed:
        callback.load_state_dict(state)
    assert len({tuple(drawn(callback).tolist()) for callback in resumed}) == 4


def test_the_steps_that_were_left_out_are_counted_on() -> None:
    callback, resumed = AdversarialDropoutCallback(), AdversarialDropoutCallback()
    callback.skipped = 3
    resumed.load_state_dict(callback.state_dict())
    assert resumed.skipped == 3
    resumed.load_state_dict({"generator": callback.state_dict()["generator"]})
    assert resumed.skipped == 0

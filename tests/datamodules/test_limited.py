from __future__ import annotations

import numpy as np
import pytest

from lightning_advdrop.datamodules.limited import LimitedBatches
from tests.helpers.messages import refused


def limited(limit: int | None, **arguments: int | bool) -> LimitedBatches:
    settings: dict[str, int | bool] = {"batch_size": 1, "length": 10, "random_lengths": True} | arguments
    return LimitedBatches(np.arange(401), limit=limit, **settings)


COUNTS = [limited(None).batches_in(epoch) for epoch in range(40)]
FEWEST = min(COUNTS)


def test_epochs_have_the_batches_that_are_told_before() -> None:
    loader = limited(None)
    for epoch, count in enumerate(COUNTS):
        loader.set_epoch(epoch)
        assert (len(list(loader)), loader.num_batches) == (count, count)
    assert COUNTS[0] > FEWEST


def test_the_shortest_epoch_bounds_the_limit() -> None:
    limited(FEWEST).check_limit(range(40))
    limited(FEWEST + 1).check_limit(range(COUNTS.index(FEWEST)))
    with refused("limit_train_batches", FEWEST, "epoch", COUNTS.index(FEWEST), 1.0, "random_lengths=True", FEWEST + 1):
        limited(FEWEST + 1).check_limit(range(40))
    limited(10**6).check_limit(range(0))
    limited(None).check_limit(range(40))


def test_an_epoch_is_checked_when_it_is_set() -> None:
    epoch = COUNTS.index(FEWEST)
    loader = limited(FEWEST + 1)
    loader.set_epoch(epoch - 1)
    with refused("limit_train_batches", FEWEST, "epoch", epoch, 1.0, "random_lengths=True", FEWEST + 1):
        loader.set_epoch(epoch)


@pytest.mark.parametrize(("max_length", "fewest"), [(None, 14), (5, 80), (16, 25)])
def test_a_limit_that_any_epoch_has_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, max_length: int | None, fewest: int
) -> None:
    loader = limited(fewest, **({} if max_length is None else {"max_length": max_length}))
    assert loader.fewest_batches == fewest <= min(loader.batches_in(epoch) for epoch in range(40))
    monkeypatch.setattr(loader, "_ends", lambda _: pytest.fail("counted"))
    loader.check_limit(range(10**9))


def test_epochs_far_ahead_are_left_until_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = limited(20)
    counted: list[int] = []

    def count(epoch: int) -> int:
        counted.append(epoch)
        return 20

    monkeypatch.setattr(loader, "batches_in", count)
    loader.check_limit(range(3, 10**9))
    assert counted == list(range(3, 10_003))


def test_fixed_lengths() -> None:
    loader = limited(40, random_lengths=False)
    assert loader.fewest_batches == loader.batches_in(3) == 40

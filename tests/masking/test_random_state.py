"""Remembering and bringing back random generators."""

import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

from lightning_advdrop.masking import RandomState, isolated


def draw() -> list[Any]:
    return [torch.rand(3).tolist(), torch.randn(2).tolist(), np.random.rand(2).tolist(), random.random()]


def test_restore_brings_every_generator_back() -> None:
    state = RandomState.now()
    first = draw()
    assert draw() != first
    state.restore()
    assert draw() == first


def test_a_state_can_be_restored_again_and_again() -> None:
    state = RandomState.now()
    first = draw()
    for _ in range(3):
        state.restore()
        assert draw() == first


def test_the_second_half_of_a_pair_of_normal_numbers_is_kept() -> None:
    np.random.randn()
    random.gauss(0, 1)
    state = RandomState.now()
    first = np.random.randn(), random.gauss(0, 1)
    state.restore()
    assert (np.random.randn(), random.gauss(0, 1)) == first


def test_seeded_states_are_the_same_for_the_same_seed_and_touch_nothing() -> None:
    before = RandomState.now()
    first, second, other = RandomState.seeded(3), RandomState.seeded(3), RandomState.seeded(4)
    after = draw()
    before.restore()
    assert draw() == after
    results = []
    for state in (first, second, other):
        state.restore()
        results.append(draw())
    assert results[0] == results[1]
    assert all(a != b for a, b in zip(results[0], results[2], strict=True))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_range_of_seeds(seed: int) -> None:
    RandomState.seeded(seed).restore()
    first = draw()
    RandomState.seeded(seed).restore()
    assert draw() == first


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_outside_the_range_is_refused_and_touches_nothing(seed: int) -> None:
    before = RandomState.now()
    with pytest.raises(ValueError, match=r"[Ss]eed"):
        RandomState.seeded(seed)
    after = draw()
    before.restore()
    assert draw() == after


def test_isolated_leaves_the_generators_alone() -> None:
    state = RandomState.now()
    expected = draw()
    state.restore()
    with isolated():
        assert draw() == expected
    assert draw() == expected


def test_isolated_leaves_the_generators_alone_after_an_exception() -> None:
    state = RandomState.now()
    expected = draw()
    state.restore()
    with suppress(KeyError), isolated():
        draw()
        raise KeyError
    assert draw() == expected

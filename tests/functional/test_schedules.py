import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_advdrop.functional import gaussian_rampdown, sigmoid_rampup
from tests.helpers.messages import refused

thorough = settings(deadline=None, derandomize=True)
epochs, lengths = st.floats(0, 1e4), st.floats(0, 1e3)


@pytest.mark.parametrize("epoch", [0, 1, 12.5, 49, 49.9])
def test_rampup_follows_the_published_formula(epoch: float) -> None:
    assert sigmoid_rampup(epoch, 50) == pytest.approx(math.exp(-5 * (1 - epoch / 50) ** 2), rel=1e-15)


@pytest.mark.parametrize(("epoch", "length"), [(50, 50), (51, 50), (1e9, 50), (0, 0), (3, 0)])
def test_rampup_is_one_from_its_length_on(epoch: float, length: float) -> None:
    assert sigmoid_rampup(epoch, length) == 1.0


@given(epochs, epochs, lengths)
@thorough
def test_rampup_grows_within_its_bounds(first: float, second: float, length: float) -> None:
    early, late = sorted((first, second))
    assert math.exp(-5) <= sigmoid_rampup(early, length) <= sigmoid_rampup(late, length) <= 1


def test_rampdown_follows_the_published_formula() -> None:
    assert [gaussian_rampdown(epoch, 250, 50) for epoch in range(201)] == [1.0] * 201
    for into in range(1, 51):
        assert gaussian_rampdown(200 + into, 250, 50) == pytest.approx(math.exp(-((0.5 * into) ** 2) / 50), rel=1e-15)


@pytest.mark.parametrize("epoch", [0, 100, 249, 250, 300])
def test_rampdown_of_no_length_is_none(epoch: float) -> None:
    assert gaussian_rampdown(epoch, 250, 0) == 1.0


@given(epochs, epochs, lengths, lengths)
@thorough
def test_rampdown_shrinks_within_its_bounds(first: float, second: float, total: float, length: float) -> None:
    early, late = sorted((first, second))
    assert 0 <= gaussian_rampdown(late, total, length) <= gaussian_rampdown(early, total, length) <= 1


@pytest.mark.parametrize(
    ("schedule", "arguments", "parts"),
    [
        (sigmoid_rampup, (0, -1), ("length", 0, -1)),
        (sigmoid_rampup, (-0.5, 3), ("epoch", 0, -0.5)),
        (gaussian_rampdown, (-1, 2, 3), ("epoch", 0, -1)),
        (gaussian_rampdown, (1, -2, 3), ("total", 0, -2)),
        (gaussian_rampdown, (1, 2, -3), ("length", 0, -3)),
    ],
)
def test_schedules_refuse_negative_arguments(
    schedule: Callable[..., float], arguments: tuple[float, ...], parts: tuple[object, ...]
) -> None:
    with refused(*parts):
        schedule(*arguments)

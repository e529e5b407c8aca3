"""Predictions of a probe beside those of the base pass."""

from __future__ import annotations

import warnings

import pytest
import torch

from lightning_advdrop.regularizers.probes import warn_if_equal


@pytest.mark.parametrize("shape", [(1,), (20,), (2, 3), (40, 3, 2)])
def test_a_difference_anywhere_is_found(shape: tuple[int, ...]) -> None:
    base = torch.randn(shape)
    for place in range(0, base.numel(), 7):
        other = base.clone()
        other.view(-1)[place] += 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not warn_if_equal(base, other, "ones")


@pytest.mark.parametrize("shape", [(1,), (20,), (40, 3, 2)])
def test_equal_predictions_are_told(shape: tuple[int, ...]) -> None:
    base = torch.randn(shape)
    with pytest.warns(UserWarning, match="start='ones'"):
        assert warn_if_equal(base, base.clone(), "ones")

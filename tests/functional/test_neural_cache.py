"""The neural cache against a reference that goes word by word."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_advdrop.functional import neural_cache
from tests.helpers.messages import refused
from tests.helpers.reference_neural_cache import with_cache


def case(steps: int, batch: int, words: int = 5, units: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    probability = torch.rand(steps, batch).clamp_min(1e-3)
    return probability.log(), torch.randn(steps, batch, units), torch.randint(words, (steps, batch))


def reference(case: tuple[Tensor, Tensor, Tensor], theta: float, interpolation: float, window: int) -> Tensor:
    log_probability, outputs, targets = case
    columns = [
        with_cache(p.tolist(), h.tolist(), w.tolist(), theta, interpolation, window)
        for p, h, w in zip(log_probability.double().exp().T, outputs.transpose(0, 1), targets.T, strict=True)
    ]
    return torch.tensor(columns).T


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 25), st.integers(0, 2**16))
def test_it_is_the_references(steps: int, batch: int, window: int, seed: int) -> None:
    torch.manual_seed(seed)
    made = case(steps, batch)
    thetas, shares = [0.0, 0.3, 2.0], [0.0, 0.1, 0.9]
    found = neural_cache(*made, thetas=thetas, interpolations=shares, window=window)
    assert found.shape == (3, 3, steps, batch)
    for row, theta in zip(found, thetas, strict=True):
        for value, share in zip(row, shares, strict=True):
            torch.testing.assert_close(value.exp(), reference(made, theta, share, window), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [1, 50, 127, 128, 129, 300, 1000])
def test_texts_longer_than_a_chunk_are_the_references(window: int) -> None:
    made = case(300, 1)
    found = neural_cache(*made, thetas=[0.7], interpolations=[0.3], window=window)[0, 0]
    torch.testing.assert_close(found.exp(), reference(made, 0.7, 0.3, window), rtol=1e-4, atol=1e-6)


def test_a_text_in_pieces_is_the_same_text() -> None:
    log_probability, outputs, targets = case(40, 2)
    options: Any = {"thetas": [0.5, 1.0], "interpolations": [0.2], "window": 9}
    whole = neural_cache(log_probability, outputs, targets, **options)
    parts, past = [], None
    for piece in (slice(0, 7), slice(7, 8), slice(8, 30), slice(30, 40)):
        parts.append(neural_cache(log_probability[piece], outputs[piece], targets[piece], **options, past=past))
        end = slice(max(0, piece.stop - 9), piece.stop)
        past = outputs[end], targets[end]
    torch.testing.assert_close(torch.cat(parts, -2), whole)


def test_the_words_probabilities_add_up_to_one() -> None:
    """Each word in turn stands at the last step."""
    logits, outputs, targets = torch.randn(5), torch.randn(6, 1, 3), torch.randint(5, (6, 1))
    total = 0.0
    for word in range(5):
        targets[-1] = word
        log_probability = torch.zeros(6, 1)
        log_probability[-1] = logits.log_softmax(-1)[word]
        found = neural_cache(log_probability, outputs, targets, thetas=[1.3], interpolations=[0.4], window=4)
        total += found[0, 0, -1].exp().item()
    assert total == pytest.approx(1, abs=1e-5)


def test_huge_scores_neither_overflow_nor_vanish() -> None:
    log_probability, _, targets = case(10, 2)
    outputs = torch.randn(10, 2, 3) * 1e3
    found = neural_cache(log_probability, outputs, targets, thetas=[0.0, 5.0], interpolations=[0.5], window=4)
    assert found.isfinite().all()
    assert (found.exp() <= 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"thetas": []}, 0),
        ({"thetas": [0.1, -1.0]}, 0),
        ({"thetas": [float("nan")]}, 0),
        ({"interpolations": [1.0]}, "[0, 1)"),
        ({"interpolations": []}, "[0, 1)"),
        ({"window": 0}, 1),
    ],
    ids=str,
)
def test_arguments_are_checked(options: dict[str, Any], allowed: object) -> None:
    fine: dict[str, Any] = {"thetas": [0.1], "interpolations": [0.1], "window": 2}
    ((name, value),) = options.items()
    with refused(name, allowed, value):
        neural_cache(*case(3, 2), **(fine | options))


def test_shapes_are_checked() -> None:
    log_probability, outputs, targets = case(3, 2)
    arguments = ("log_probability", "targets", "(steps, batch)", "outputs", "(steps, batch, units)")
    with refused(*arguments, (3, 2), (2, 2), (3, 2, 3)):
        neural_cache(log_probability, outputs, targets[1:], thetas=[0.1], interpolations=[0.1], window=2)

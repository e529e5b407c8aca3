from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_advdrop.datamodules import UNLABELLED, LengthBuckets
from lightning_advdrop.datamodules.text_batches import pad_documents
from tests.helpers.messages import refused


def epochs(buckets: LengthBuckets, number: int) -> list[list[int]]:
    """The batches of some epochs, one epoch behind the other."""
    batches = []
    for epoch in range(number):
        buckets.set_epoch(epoch)
        batches += list(buckets)
    return batches


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=9))
def test_padding(documents: list[list[int]]) -> None:
    batch = pad_documents([np.array(document) for document in documents], [UNLABELLED] * len(documents), 1)
    assert batch.tokens.shape == (len(documents), max(map(len, documents)))
    assert batch.tokens.dtype == batch.lengths.dtype == batch.labels.dtype == torch.int64
    for row, length, document in zip(batch.tokens.tolist(), batch.lengths.tolist(), documents, strict=True):
        assert row[:length] == document
        assert set(row[length:]) <= {1}
    assert batch.labels.tolist() == [UNLABELLED] * len(documents)


@pytest.mark.parametrize(
    ("documents", "labels", "parts"),
    [
        ([], [], ("documents", 0, 0)),
        ([[3]], [0, 1], ("documents", 1, 2)),
        ([[3], []], [0, 1], ("documents", "none", 1)),
    ],
)
def test_what_cannot_be_padded(documents: list[list[int]], labels: list[int], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        pad_documents([np.array(document) for document in documents], labels, 1)


@given(
    st.integers(1, 60), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.one_of(st.none(), st.integers(1, 9))
)
def test_each_document_comes_once_before_any_comes_twice(
    documents: int, batch_size: int, world_size: int, seed: int, num_batches: int | None
) -> None:
    lengths = np.random.RandomState(seed).randint(1, 50, documents)
    shares = [
        epochs(
            LengthBuckets(lengths, batch_size, num_batches=num_batches, seed=seed, rank=rank, world_size=world_size), 3
        )
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    for batches in zip(*shares, strict=True):
        assert len({len(batch) for batch in batches}) == 1
        assert 0 < len(batches[0]) <= batch_size
    one_pass = -(-documents // (batch_size * world_size))
    for start in range(0, len(shares[0]) - one_pass + 1, one_pass):
        seen = [number for share in shares for number in flat(share[start : start + one_pass])]
        assert set(seen) == set(range(documents))
        assert len(seen) == -(-documents // world_size) * world_size


def test_the_order_is_made_by_seed_and_epoch_alone() -> None:
    lengths = np.arange(40) % 7 + 1
    first = LengthBuckets(lengths, 4, num_batches=3, seed=5)
    in_one_go = epochs(first, 6)
    resumed = LengthBuckets(lengths, 4, num_batches=3, seed=5)
    resumed.set_epoch(4)
    assert list(resumed) == list(resumed) == in_one_go[12:15]
    assert epochs(LengthBuckets(lengths, 4, num_batches=3, seed=6), 6) != in_one_go
    assert in_one_go[:10] != in_one_go[8:]


def test_batches_are_of_about_equally_long_documents() -> None:
    lengths = np.random.RandomState(0).randint(1, 400, 4000)
    padded = sum(len(batch) * lengths[batch].max() for batch in LengthBuckets(lengths, 16))
    assert padded < 1.1 * lengths.sum()
    in_any_order = sum(16 * lengths[start : start + 16].max() for start in range(0, 4000, 16))
    assert in_any_order > 1.7 * lengths.sum()


def test_the_shares_of_a_batch_are_about_equally_long() -> None:
    lengths = np.random.RandomState(0).randint(1, 400, 4000)
    shares = [LengthBuckets(lengths, 8, rank=rank, world_size=2) for rank in range(2)]
    longest = np.array([[lengths[batch].max() for batch in share] for share in shares])
    assert np.ptp(longest, axis=0).max() < 10


def test_evaluation_goes_by_length_in_every_epoch() -> None:
    lengths = [5, 1, 4, 2, 3]
    assert epochs(LengthBuckets(lengths, 2, shuffle=False), 2) == [[1, 3], [4, 2], [0]] * 2


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ({"batch_size": 0}, ValueError, ("batch_size", 1, 0)),
        ({"batch_size": 2.0}, TypeError, ("batch_size", 1, 2.0)),
        ({"num_batches": 0}, ValueError, ("num_batches", 1, 0)),
        ({"seed": -1}, ValueError, ("seed", 0, 4294967295, -1)),
        ({"world_size": 0}, ValueError, ("world_size", 1, 0)),
        ({"rank": 2, "world_size": 2}, ValueError, ("rank", 0, 1, 2)),
        ({"lengths": []}, ValueError, ("lengths", "none")),
    ],
)
def test_values_out_of_range(arguments: dict[str, Any], error: type[Exception], parts: tuple[object, ...]) -> None:
    with refused(*parts, error=error):
        LengthBuckets(**{"lengths": [1, 2], "batch_size": 2, **arguments})

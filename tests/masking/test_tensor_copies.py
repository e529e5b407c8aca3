"""Copies of tensors and arrays, with the memory that they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lightning_advdrop.masking.tensor_copies import copies_of, same_bits


def parts_of_one_memory() -> dict[str, Any]:
    whole = torch.arange(24.0)
    array = whole.numpy()
    return {
        "whole": whole,
        "part": whole[3:9],
        "strided": whole[1::2],
        "transposed": whole.view(4, 6).t(),
        "array": array,
        "reversed": array[::-3],
        "grid": array.reshape(4, 6)[::-1, ::2],
        "bits": whole.view(torch.int32),
    }


def test_what_shares_memory_shares_it_again() -> None:
    leaves = parts_of_one_memory()
    copies = dict(zip(leaves, copies_of(list(leaves.values())), strict=True))
    for name, leaf in leaves.items():
        assert type(copies[name]) is type(leaf)
        assert np.array_equal(np.asarray(copies[name]), np.asarray(leaf)), name
    copies["array"][:] = -1
    for name in leaves:
        assert (np.asarray(copies[name]) == (np.float32(-1).view(np.int32) if name == "bits" else -1)).all(), name
    assert torch.equal(leaves["whole"], torch.arange(24.0))


@pytest.mark.parametrize(
    "names", [("part", "strided"), ("reversed", "part"), ("grid", "reversed"), ("strided", "bits")]
)
def test_parts_without_the_whole(names: tuple[str, str]) -> None:
    leaves = [parts[name] for parts in [parts_of_one_memory()] for name in names]
    copies = copies_of(leaves)
    for leaf, copy in zip(leaves, copies, strict=True):
        assert np.array_equal(np.asarray(copy), np.asarray(leaf))
        assert not np.shares_memory(np.asarray(copy), np.asarray(leaf))


def test_neighbours_in_memory_are_copied_apart() -> None:
    whole = torch.zeros(6)
    first, second = copies_of([whole[:3], whole[3:]])
    assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr()
    assert first.untyped_storage().nbytes() == 12


def test_a_part_at_odd_bytes_is_copied_by_itself() -> None:
    raw = np.zeros(16, np.uint8)
    odd = np.frombuffer(raw, np.float32, count=2, offset=1)
    copies = copies_of([raw, odd, torch.from_numpy(raw)[4:8].view(torch.float32)])
    copies[0][:] = 1
    assert np.array_equal(copies[1], np.frombuffer(np.ones(8, np.uint8), np.float32))


@pytest.mark.parametrize(
    "leaf",
    [
        torch.zeros(0),
        torch.zeros(()),
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.bool),
        torch.zeros(2, device="meta"),
        torch.nn.Buffer(torch.ones(2)),
        np.zeros(()),
        np.zeros((0, 3)),
        np.array(["a", "b"]),
        np.zeros(2, dtype=[("x", "f4"), ("y", "i8")]),
    ],
    ids=str,
)
def test_kinds_of_leaves(leaf: Any) -> None:
    (copy,) = copies_of([leaf])
    assert copy is not leaf
    assert copy.shape == leaf.shape
    assert copy.dtype == leaf.dtype


def test_tensors_whose_bytes_are_read_as_other_numbers_are_copied_apart() -> None:
    whole = torch.tensor([1 + 2j, 3 - 4j])
    for leaf, values in ((whole.conj(), [1 - 2j, 3 + 4j]), (whole.conj().imag, [-2.0, 4.0])):
        copies = copies_of([whole, leaf])
        assert [copy.tolist() for copy in copies] == [[1 + 2j, 3 - 4j], values]


def test_a_graph_is_kept() -> None:
    weight = torch.ones(2, requires_grad=True)
    leaf = weight * 2
    with torch.no_grad():
        (copy,) = copies_of([leaf])
    (gradient,) = torch.autograd.grad(copy.sum(), weight)
    assert gradient.tolist() == [2, 2]


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
)
def test_bits_of_each_type(dtype: torch.dtype) -> None:
    first = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    assert same_bits(first, first.clone())
    assert same_bits(first.t(), first.t().contiguous())
    assert not same_bits(first, 1 - first if dtype is not torch.bool else ~first)
    assert not same_bits(first, first[:1])

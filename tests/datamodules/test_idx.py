import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lightning_advdrop.datamodules.idx import IDXFormatError, find_idx, read_idx
from tests.helpers.idx_files import idx_bytes, write_idx
from tests.helpers.messages import refused

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = idx_bytes(IMAGES)


@given(
    array=npst.arrays(np.uint8, npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_round_trip(array: npt.NDArray[np.uint8], suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_idx(Path(folder, f"file{suffix}"), array)
        tensor = read_idx(path, dimensions=array.ndim)
    assert tensor.dtype == torch.uint8
    assert tensor.shape == array.shape
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed"
    plain.write_bytes(WHOLE)
    packed.write_bytes(gzip.compress(WHOLE))
    torch.testing.assert_close(read_idx(plain, 3), read_idx(packed, 3))


def test_result_can_be_written_to(tmp_path: Path) -> None:
    tensor = read_idx(write_idx(tmp_path / "images", IMAGES), 3)
    tensor += 1
    assert tensor[0, 0, 0] == 1


def test_find_prefers_the_plain_file(tmp_path: Path) -> None:
    assert find_idx(tmp_path, "images") is None
    packed = write_idx(tmp_path / "images.gz", IMAGES)
    assert find_idx(tmp_path, "images") == packed
    plain = write_idx(tmp_path / "images", IMAGES)
    assert find_idx(tmp_path, "images") == plain


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "images"
    with refused(path, "missing", "IDX", error=FileNotFoundError):
        read_idx(path, 3)


BAD_CONTENTS = {
    "empty": (b"", ("truncated", 0, 16, "delete")),
    "half a magic number": (WHOLE[:3], ("truncated", 3, 16, "delete")),
    "half a header": (WHOLE[:10], ("truncated", 10, 16, "delete")),
    "lacks a byte": (
        WHOLE[:-1],
        ("truncated", 23, 24, "2 x 3 x 4", "delete"),
    ),
    "one byte more": (
        WHOLE + b"\0",
        ("trailing", 25, 24, "2 x 3 x 4", "delete"),
    ),
    "no IDX file": (
        b"<!DOCTYPE html>",
        ("magic number", "0x3c21444f", "0x00000803", "IDX", "3 dimension", "delete"),
    ),
    "unknown element type": (
        idx_bytes(IMAGES, kind=0x42),
        ("magic number", "0x00004203", "0x00000803", "IDX", "3 dimension", "delete"),
    ),
    "other element type": (
        idx_bytes(IMAGES, kind=0x0D),
        ("element type", "0x0d", "32-bit float", "0x08", "unsigned byte"),
    ),
    "labels for images": (
        idx_bytes(IMAGES.reshape(-1)),
        ("magic number", "0x00000801", "1 dimension", "0x00000803", "images", "labels"),
    ),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "parts"), BAD_CONTENTS.values(), ids=BAD_CONTENTS.keys())
def test_bad_content(tmp_path: Path, content: bytes, parts: tuple[object, ...], pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "images"
    path.write_bytes(pack(content))
    with refused(path, *parts, error=IDXFormatError):
        read_idx(path, 3)


@pytest.mark.parametrize("kept", [2, 10, 20, -1])
def test_truncated_gzip(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "images.gz"
    packed = gzip.compress(WHOLE)[:kept]
    path.write_bytes(packed)
    with refused(path, "truncated", len(packed), "delete", error=IDXFormatError):
        read_idx(path, 3)


@pytest.mark.parametrize("place", [2, 10, -6], ids=["method", "stream", "checksum"])
def test_damaged_gzip(tmp_path: Path, place: int) -> None:
    path = tmp_path / "images.gz"
    packed = bytearray(gzip.compress(WHOLE))
    packed[place] ^= 0xFF
    path.write_bytes(packed)
    with refused(path, "damaged", "gzip", "delete", error=IDXFormatError):
        read_idx(path, 3)


@given(content=st.binary(max_size=60))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(content)
        try:
            tensor = read_idx(path, 1)
        except IDXFormatError as error:
            assert str(path) in str(error)  # noqa: PT017 - both outcomes are right
        else:
            assert idx_bytes(tensor.numpy()) == content

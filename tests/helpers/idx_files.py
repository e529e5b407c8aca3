"""Writing small IDX files, plain or compressed, in the published format."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def idx_bytes(array: Bytes, kind: int = 0x08) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return header + array.tobytes()


def write_idx(path: Path, array: Bytes) -> Path:
    """Write an array of unsigned bytes, compressed where the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx_bytes(array)
    # mtime=0: the same array always gives the same file, hence the same checksum.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def mnist_arrays(n_train: int, n_test: int, seed: int = 0) -> dict[str, Bytes]:
    """Random images and labels under the published names, without .gz."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, count in (("train", n_train), ("t10k", n_test)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, (count,), dtype=np.uint8)
    return arrays


def write_mnist(root: Path, arrays: dict[str, Bytes], suffix: str = ".gz") -> None:
    for name, array in arrays.items():
        write_idx(root / "mnist" / f"{name}{suffix}", array)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()

"""Reading IDX files, the format in which MNIST is published.

An IDX file starts with a magic number of four bytes (two zeros, the element type, the number of dimensions), followed
by one big-endian 32-bit size per dimension and the elements in C order (LeCun, Cortes & Burges, "The MNIST database
of handwritten digits").
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_advdrop.datamodules.unpacking import bounded

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_ELEMENT_TYPES = {
    0x08: "unsigned byte",
    0x09: "signed byte",
    0x0B: "16-bit integer",
    0x0C: "32-bit integer",
    0x0D: "32-bit float",
    0x0E: "64-bit float",
}
_REMEDY = "delete the file and download it again"


class IDXFormatError(ValueError):
    """Invalid content of an IDX file; the message names the file, its content and what to do."""


def find_idx(folder: Path, name: str) -> Path | None:
    """Find an IDX file, plain or compressed.

    Args:
        folder: Folder to search.
        name: File name without ``.gz``.

    Returns:
        ``folder/name`` if it is a file, else ``folder/name.gz`` if that is one, else ``None``.

    Example:
        >>> find_idx(Path("no-such-folder"), "train-labels-idx1-ubyte") is None
        True
    """
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file of unsigned bytes.

    Its first bytes tell whether it is compressed, not its name: browsers decompress and rename files.

    Args:
        path: The file, plain or compressed with gzip.
        dimensions: Number of dimensions that the file must have: 3 for images, 1 for labels.

    Returns:
        Tensor of dtype ``uint8`` with the sizes that the file states, e.g. ``(N, height, width)`` for images.

    Raises:
        FileNotFoundError: If there is no such file.
        IDXFormatError: If the file is truncated, too long, or has the magic number of another format, element type or
            number of dimensions.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "labels")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3]) + bytes([7, 2, 1]))
        ...     read_idx(path, dimensions=1)
        tensor([7, 2, 1], dtype=torch.uint8)
    """
    content = _read_bytes(path)
    header = 4 + 4 * dimensions
    if len(content) >= 4:
        _check_magic(path, content[:4], dimensions)
    if len(content) < header:
        raise IDXFormatError(
            f"{path} is truncated: found {len(content)} bytes, expected a header of {header}; {_REMEDY}"
        )
    sizes = struct.unpack(f">{dimensions}I", content[4:header])
    _check_length(path, sizes, len(content) - header)
    # A bytearray makes the array writable, as from_numpy requires, without a copy.
    elements = torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header))
    return elements.reshape(sizes)


def _read_bytes(path: Path) -> bytearray:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: found no such file, expected an IDX file; download it or correct the folder"
        ) from None
    if not content.startswith(_GZIP_MAGIC):
        return bytearray(content)
    try:
        with bounded(gzip.open(path), path, IDXFormatError) as file:
            return bytearray(file.read())
    except EOFError:
        raise IDXFormatError(
            f"{path} is truncated: found {len(content)} compressed bytes, expected the end of the gzip stream after"
            f" them; {_REMEDY}"
        ) from None
    except (gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise IDXFormatError(
            f"{path} is damaged: found a gzip stream that cannot be unpacked ({error}), expected a whole one; {_REMEDY}"
        ) from error


def _check_magic(path: Path, magic: bytearray, dimensions: int) -> None:
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if magic == expected:
        return
    _, _, kind, found_dimensions = magic
    if magic[:2] != b"\0\0" or kind not in _ELEMENT_TYPES:
        raise IDXFormatError(
            f"{path} has a wrong magic number: found 0x{magic.hex()}, expected 0x{expected.hex()} (IDX, unsigned bytes,"
            f" {dimensions} dimension(s)); {_REMEDY}"
        )
    if kind != _UNSIGNED_BYTE:
        raise IDXFormatError(
            f"{path} has a wrong element type: found 0x{kind:02x} ({_ELEMENT_TYPES[kind]}), expected"
            f" 0x{_UNSIGNED_BYTE:02x} (unsigned byte); put the published file in its place"
        )
    raise IDXFormatError(
        f"{path} has a wrong magic number: found 0x{magic.hex()} ({found_dimensions} dimension(s)), expected"
        f" 0x{expected.hex()} ({dimensions}); images have 3 and labels 1, so check that they are not exchanged"
    )


def _check_length(path: Path, sizes: tuple[int, ...], found: int) -> None:
    expected, stated = math.prod(sizes), " x ".join(map(str, sizes))
    if found != expected:
        raise IDXFormatError(
            f"{path} {'is truncated' if found < expected else 'has trailing bytes'}: found {found} bytes after the"
            f" header, expected {expected} ({stated}); {_REMEDY}"
        )

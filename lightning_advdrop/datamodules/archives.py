"""Reading tar archives in one pass, without extracting them."""

from __future__ import annotations

import gzip
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from lightning_advdrop.datamodules.text_files import DocumentError

_CHUNK = 1 << 20
_REMEDY = "delete the file and download it again"


def read_tar_gz(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Read the files of a gzip-compressed tar archive, in their order.

    Args:
        path: The archive.

    Yields:
        The relative path and the content of a file.

    Raises:
        FileNotFoundError: If there is no such archive.
        DocumentError: If the archive is truncated or damaged, or contains a path that leads out of its folder, a link
            or a device. Files yielded before are intact.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "reviews.tar.gz")
        ...     _ = Path(folder, "0_9.txt").write_text("fine")
        ...     with tarfile.open(path, "w:gz") as archive:
        ...         archive.add(Path(folder, "0_9.txt"), "pos/0_9.txt")
        ...     list(read_tar_gz(path))
        [(PurePosixPath('pos/0_9.txt'), b'fine')]
    """
    try:
        # gzip checks length and checksum at the end; tarfile's own decompression of streams does not.
        with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                name = _checked(member, path)
                file = archive.extractfile(member)
                if file is not None:
                    yield name, file.read()
            while unpacked.read(_CHUNK):
                pass
    except EOFError:
        raise DocumentError(
            f"{path} is truncated: found its end after {path.stat().st_size} bytes, expected the end of the gzip stream"
            f" after them; {_REMEDY}"
        ) from None
    except (gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise DocumentError(
            f"{path} is damaged: found an archive that cannot be unpacked ({error}), expected a whole one; {_REMEDY}"
        ) from error


def unpack(path: Path, folder: Path, patterns: Sequence[str]) -> None:
    """Extract some files of a gzip-compressed tar archive to a folder, without their parent folders.

    Each is written under a temporary name and renamed, so that it is complete or absent.

    Args:
        path: The archive.
        folder: Existing folder to write to.
        patterns: Patterns of file names, such as ``"*.cat"``.

    Raises:
        FileNotFoundError: If there is no such archive.
        DocumentError: If `read_tar_gz` refuses the archive.
        OSError: If a file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "elec.tar.gz")
        ...     _ = Path(folder, "labels").write_text("1")
        ...     with tarfile.open(path, "w:gz") as archive:
        ...         archive.add(Path(folder, "labels"), "elec/elec-test.cat")
        ...     unpack(path, Path(folder), ["*.cat"])
        ...     Path(folder, "elec-test.cat").read_text()
        '1'
    """
    for name, content in read_tar_gz(path):
        if any(fnmatchcase(name.name, pattern) for pattern in patterns):
            with tempfile.TemporaryDirectory(prefix=f".{name.name}-", dir=folder) as scratch:
                whole = Path(scratch, name.name)
                whole.write_bytes(content)
                whole.replace(folder / name.name)


def _checked(member: tarfile.TarInfo, path: Path) -> PurePosixPath:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise DocumentError(
            f"{path} holds the path {member.name!r}, which leads out of its folder: expected paths below it; {_REMEDY}"
        )
    if not (member.isreg() or member.isdir()):
        raise DocumentError(
            f"{path} holds {member.name!r}, which is a link or a device: expected files and folders; {_REMEDY}"
        )
    return name

"""Reading packed archives in one pass, without unpacking them to the disk."""

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
    """Read the files of a tar archive that is packed with gzip, in the order in which they lie there.

    Args:
        path: The archive.

    Yields:
        The relative path of a file and its content.

    Raises:
        FileNotFoundError: If there is no such archive.
        DocumentError: If the archive is truncated or damaged, or if it holds a path that leads out of the folder that
            it would be unpacked to, or a link or device. What was yielded before came out whole.

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
        # gzip checks length and checksum at the end, which tarfile's own unpacking of streams does not.
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
    """Write some files of a tar archive that is packed with gzip to a folder, without the folders they lie in.

    Each is written to a temporary name and renamed, so that it is whole or absent.

    Args:
        path: The archive.
        folder: Where to; it must exist.
        patterns: Of the names of these files, such as ``"*.cat"``.

    Raises:
        FileNotFoundError: If there is no such archive.
        DocumentError: If the archive is truncated, damaged or hostile, as `read_tar_gz` has it.
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

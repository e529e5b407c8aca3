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
from lightning_advdrop.datamodules.unpacking import bounded
from lightning_advdrop.files import writing

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
        DocumentError: If the archive is truncated or damaged, contains a path that leads out of its folder, a link, a
            device or two files of one name, or unpacks to far more than its size. Files yielded before are intact.

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
        with (
            bounded(gzip.open(path), path, DocumentError) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|") as archive,
        ):
            seen: set[PurePosixPath] = set()
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                name = _checked(member, path)
                file = archive.extractfile(member)
                if file is not None:
                    _check_new(name, seen, path)
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

    They move there together when the whole archive has been read, and its checksum with it.

    Args:
        path: The archive.
        folder: Existing folder to write to.
        patterns: Patterns of file names, such as ``"*.cat"``.

    Raises:
        FileNotFoundError: If there is no such archive.
        DocumentError: If `read_tar_gz` refuses the archive, or two of these files have one name.
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
    seen: set[PurePosixPath] = set()
    with writing(folder):
        scratch = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=folder)
    with scratch as whole:
        for name, content in read_tar_gz(path):
            if any(fnmatchcase(name.name, pattern) for pattern in patterns):
                _check_new(PurePosixPath(name.name), seen, path)
                with writing(folder / name.name):
                    Path(whole, name.name).write_bytes(content)
        for name in seen:
            with writing(folder / name):
                Path(whole, name).replace(folder / name)


def _check_new(name: PurePosixPath, seen: set[PurePosixPath], path: Path) -> None:
    if name in seen:
        raise DocumentError(f"{path} holds {str(name)!r} more than once: expected one file of each name; {_REMEDY}")
    seen.add(name)


def _checked(member: tarfile.TarInfo, path: Path) -> PurePosixPath:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise DocumentError(
            f"{path} holds the path {member.name!r}, which leads out of its folder: expected paths below it; {_REMEDY}"
        )
    if member.size < 0:
        raise DocumentError(f"{path} is damaged: found {member.size} bytes for {member.name!r}; {_REMEDY}")
    # A sparse file states how many zeros it has, and holds none of them.
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DocumentError(
            f"{path} holds {member.name!r}, which is a link, a device or a sparse file: expected files and folders;"
            f" {_REMEDY}"
        )
    return name

"""Locating and downloading the files of published data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning import LightningDataModule

from lightning_advdrop.datamodules.downloads import check_mirrors, download
from lightning_advdrop.datamodules.roots import DATA_ROOT_VARIABLE, data_root


class FilesDataModule(LightningDataModule):
    """Data set that is read from files; a subclass implements ``find_files``."""

    title: ClassVar[str] = "Data"
    """Name of the data set in messages."""
    alternative: ClassVar[str] = ""
    """Alternative to a missing file, for messages."""
    remedy: ClassVar[str] = "correct the paths"
    """Remedy for missing files, for messages."""

    def find_files(self) -> list[Path]:
        """Return the paths of the data set's files, whether they exist or not."""
        raise NotImplementedError(f"{type(self).__name__} must implement find_files or fingerprint")

    def missing_files(self) -> list[Path]:
        """Return the paths of files that do not exist; a folder in the place of one is not it."""
        return [path for path in self.find_files() if not path.is_file()]

    def require_files(self) -> list[Path]:
        """Return the paths of the data set's files, all of which exist.

        Raises:
            FileNotFoundError: If files are missing; it names them and the remedy.
        """
        if missing := ", ".join(map(str, self.missing_files())):
            raise FileNotFoundError(
                f"{self.title} files are missing: looked for {missing}{self.alternative}; {self.remedy}"
            )
        return self.find_files()


class FolderDataModule(FilesDataModule):
    """Data set whose files lie in a folder of its own below a root.

    Args:
        root: Folder that contains the data set's folder; ``None`` for the environment variable
            ``LIGHTNING_ADVDROP_DATA``, else ``data``.
        *args: Arguments of the base class.
        **arguments: Arguments of the base class.

    Raises:
        ValueError: If ``root`` is an empty string.
    """

    folder_name: ClassVar[str]
    """Name of the data set's folder below ``root``."""
    checksums: ClassVar[Mapping[str, str]] = {}
    """Published MD5 of each file, checked after a download only: a local file may have been repacked."""
    remedy = f"put them there, or name another folder with root or the environment variable {DATA_ROOT_VARIABLE}"

    def __init__(self, root: str | Path | None = None, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.root = data_root(root)

    @property
    def folder(self) -> Path:
        """Folder of the data set's files."""
        return self.root / self.folder_name

    def find_files(self) -> list[Path]:
        """Return the paths of the data set's files, whether they exist or not."""
        return [self.folder / name for name in self.checksums] or super().find_files()


class PublishedDataModule(FolderDataModule):
    """Data set whose files can be downloaded.

    Args:
        *args: Arguments of the base class, ``root`` first.
        download: Whether to download missing files.
        mirrors: Base addresses to download from, tried in this order; ``None`` for ``published_mirrors``, those
            of the class.
        **arguments: Arguments of the base class.

    Raises:
        ValueError: If ``mirrors`` is no list of HTTP addresses.

    Example:
        >>> class Hello(PublishedDataModule):
        ...     title, folder_name, checksums = "Hello", "hello", {"hello.txt": "b1946ac92492d2347c6235b4d2611184"}
        ...     published_mirrors = ("https://example.org/",)
        >>> Hello("sets").missing_files()
        [PosixPath('sets/hello/hello.txt')]
    """

    published_mirrors: ClassVar[Sequence[str]]
    """Base addresses of the published files, tried in this order."""
    remedy = (
        f"put them there, name another folder with root or the environment variable {DATA_ROOT_VARIABLE}, or set"
        " download=True"
    )

    def __init__(
        self,
        root: str | Path | None = None,
        *args: Any,
        download: bool = False,
        mirrors: Sequence[str] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(root, *args, **arguments)
        self.download = download
        self.mirrors = check_mirrors(self.published_mirrors if mirrors is None else mirrors)

    def prepare_data(self) -> None:
        """Download missing files, if ``download`` is set, and prepare the data.

        Raises:
            FileNotFoundError: If files are missing and ``download`` is false.
            DownloadError: If no mirror delivers one of them.
        """
        if self.download and self.missing_files():
            self.fetch()
        self.require_files()
        super().prepare_data()

    def fetch(self) -> None:
        """Download missing files; raise ``DownloadError`` if no mirror delivers one of them."""
        for path in self.missing_files():
            download(path, self.mirrors, self.checksums[path.name])

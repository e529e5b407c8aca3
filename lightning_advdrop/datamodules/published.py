"""Files of published data sets: where they lie, which are missing, and fetching them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning import LightningDataModule

from lightning_advdrop.datamodules.downloads import check_mirrors, download
from lightning_advdrop.datamodules.roots import DATA_ROOT_VARIABLE, data_root


class FolderDataModule(LightningDataModule):
    """Files in a folder of the data set's own below a root.

    Args:
        root: Folder that holds the data set's own; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``,
            else ``data``.
        *args: Arguments of the base class.
        **arguments: Arguments of the base class.

    Raises:
        ValueError: If ``root`` is an empty string.
    """

    title: ClassVar[str] = "Data"
    """Name of the data set in messages."""
    folder_name: ClassVar[str]
    """Name of the data set's folder below ``root``."""
    checksums: ClassVar[Mapping[str, str]] = {}
    """Published md5 of each file, checked when it is downloaded: a local file may have been packed anew."""
    alternative: ClassVar[str] = ""
    """What may lie in place of a missing file, for messages."""
    remedy: ClassVar[str] = (
        f"put them there, or name another folder with root or the environment variable {DATA_ROOT_VARIABLE}"
    )
    """What to do about missing files."""

    def __init__(self, root: str | Path | None = None, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, **arguments)
        self.root = data_root(root)

    @property
    def folder(self) -> Path:
        """Folder of the data set's files."""
        return self.root / self.folder_name

    def missing_files(self) -> list[Path]:
        """Return the files that are looked for and not there."""
        return [path for path in (self.folder / name for name in self.checksums) if not path.is_file()]

    def require_files(self) -> None:
        """Check that no file is missing.

        Raises:
            FileNotFoundError: If files are missing; it names them and says what to do.
        """
        if missing := self.missing_files():
            looked_for = ", ".join(map(str, missing))
            raise FileNotFoundError(
                f"{self.title} files are missing: looked for {looked_for}{self.alternative}; {self.remedy}"
            )


class PublishedDataModule(FolderDataModule):
    """Files of a published data set, which can be downloaded.

    Args:
        root: Folder that holds the data set's own; ``None`` for the environment variable ``LIGHTNING_ADVDROP_DATA``,
            else ``data``.
        *args: Arguments of the base class.
        download: Whether to fetch the files that are missing.
        mirrors: Base addresses to fetch from, tried in this order; ``None`` for the published ones.
        **arguments: Arguments of the base class.

    Raises:
        ValueError: If ``root`` is an empty string, or ``mirrors`` is no list of HTTP addresses.

    Example:
        >>> class Hello(PublishedDataModule):
        ...     title, folder_name, checksums = "Hello", "hello", {"hello.txt": "b1946ac92492d2347c6235b4d2611184"}
        ...     published_mirrors = ("https://example.org/",)
        >>> Hello("sets").missing_files()
        [PosixPath('sets/hello/hello.txt')]
    """

    published_mirrors: ClassVar[Sequence[str]]
    """Base addresses of the published files, in the order in which they are tried."""
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
        """Fetch the files that are missing, if ``download`` allows it, and prepare them.

        Raises:
            FileNotFoundError: If files are missing and ``download`` is false.
            DownloadError: If no mirror delivers one of them.
        """
        if self.download and self.missing_files():
            self.fetch()
        self.require_files()
        super().prepare_data()

    def fetch(self) -> None:
        """Download the files that are missing.

        Raises:
            DownloadError: If no mirror delivers one of them.
        """
        for path in self.missing_files():
            download(path, self.mirrors, self.checksums[path.name])
